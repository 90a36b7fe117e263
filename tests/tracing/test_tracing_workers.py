"""The spans of entrypoints: what they are called, what they say, how they end, and what is current meanwhile."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kombu import Exchange, Queue
from opentelemetry import trace
from opentelemetry.context import attach
from opentelemetry.trace import SpanKind, StatusCode
from werkzeug.exceptions import ImATeapot, abort
from werkzeug.wrappers import Response

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.events import EventDispatcher, EventHandler, event_handler
from nameko.exceptions import BadRequest
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.messaging import Consumer, Publisher, consume
from nameko.rpc import Rpc, rpc
from nameko.standalone.rpc import ClusterRpcProxy
from nameko.testing.services import dummy, entrypoint_hook, entrypoint_waiter
from nameko.testing.websocket import make_virtual_socket
from nameko.timer import Timer, timer
from nameko.tracing._entrypoints import describe
from nameko.web.handlers import HttpRequestHandler, http
from nameko.web.server import WebServer
from nameko.web.websocket import WebSocketRpc
from nameko.web.websocket import rpc as websocket_rpc

# Nothing of this depends on the broker.
pytestmark = pytest.mark.parametrize("broker_uri", ["memory://localhost/tracing"])

JOBS = Exchange("jobs", type="topic")
Run = Callable[..., ServiceContainer]
Get = Callable[..., tuple[int, str]]


class Expected(Exception):
    """What an entrypoint expects."""


class Cautious(HttpRequestHandler):
    """Makes responses in a way of its own."""

    def response_from_exception(self, exc: BaseException) -> Response:
        return Response("no", status=409)


class Everything:
    name = "everything"

    dispatch = EventDispatcher()
    publish = Publisher(JOBS)

    @rpc(expected_exceptions=Expected, sensitive_arguments="secret")
    def call(self, what: str = "", secret: str = "") -> Any:
        if what == "expected":
            raise Expected("as agreed")
        if what == "unexpected":
            raise KeyError("no such thing")
        return None

    @event_handler("everything", "happened")
    def handle(self, event: Any) -> None: ...

    @consume(Queue("jobs-to-do", exchange=JOBS, routing_key="job"))
    def work(self, job: Any) -> None: ...

    @http("GET", "/things/<name>", expected_exceptions=Expected)
    def thing(self, request: Any, name: str) -> Any:
        if name == "wrong":
            raise ZeroDivisionError
        if name == "expected":
            raise Expected
        if name == "bad":
            raise BadRequest
        if name == "teapot":
            raise ImATeapot
        if name == "aborted":
            abort(Response("later", status=503))
        return {
            "created": (201, "created"),
            "broken": (502, {}, "broken"),
            "response": Response("gone", status=410),
            "number": 1,
        }.get(name, "fine")

    @http("GET", "/secrets/<secret>", sensitive_arguments="secret")
    def secret(self, request: Any, secret: str) -> str:
        return "hush"

    @Cautious.decorator("GET", "/cautious")
    def cautious(self, request: Any) -> str:
        raise ZeroDivisionError

    @dummy
    def plain(self, fn: Callable[[Any], Any]) -> Any:
        return fn(self)


@pytest.fixture
def everything(run: Run) -> ServiceContainer:
    return run(Everything)


@pytest.fixture
def in_worker(everything: ServiceContainer) -> Iterator[Callable[..., Any]]:
    """Calls a function in a worker, with the service instance as its argument."""
    with entrypoint_hook(everything, "plain") as plain:
        yield plain


def test_a_request(everything: ServiceContainer, spans: Any, broker_config: dict[str, Any]) -> None:
    with ClusterRpcProxy(broker_config, timeout=20) as cluster, entrypoint_waiter(everything, "call"):
        cluster.everything.call("this")

    span = spans.one("everything/call", SpanKind.SERVER)
    call_id = span.attributes["nameko.call_id"]
    assert call_id.startswith("everything.call.")
    assert dict(span.attributes) == {
        "rpc.system": "nameko",
        "rpc.service": "everything",
        "rpc.method": "call",
        "nameko.service": "everything",
        "nameko.method": "call",
        "nameko.entrypoint": "Rpc",
        "nameko.call_id": call_id,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.events == ()
    assert span.instrumentation_scope.name == "nameko.tracing"
    assert span.instrumentation_scope.version == "3.0.0"


def test_an_unexpected_exception_is_an_error(everything: ServiceContainer, spans: Any) -> None:
    with entrypoint_hook(everything, "call") as call, pytest.raises(KeyError):
        call("unexpected")

    span = spans.one("everything/call")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "KeyError: 'no such thing'"
    assert span.attributes["error.type"] == "KeyError"
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "KeyError"
    assert "raise KeyError" in event.attributes["exception.stacktrace"]


def test_an_expected_exception_is_no_error(everything: ServiceContainer, spans: Any) -> None:
    with entrypoint_hook(everything, "call") as call, pytest.raises(Expected):
        call("expected")

    span = spans.one("everything/call")
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["error.type"].endswith(".Expected")
    (event,) = span.events
    assert event.attributes["exception.message"] == "as agreed"


def test_an_exception_that_cannot_be_printed_is_an_error_too(
    everything: ServiceContainer, spans: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "nameko.containers")  # pytest's handler would fail on the worker's log line

    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def fail(service: Any) -> None:
        raise Mute

    with entrypoint_hook(everything, "plain") as plain, pytest.raises(Mute):
        plain(fail)

    span = spans.one("everything.plain")
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"].endswith("Mute")


def test_an_event(everything: ServiceContainer, spans: Any, in_worker: Any) -> None:
    with entrypoint_waiter(everything, "handle"):
        in_worker(lambda service: service.dispatch("happened", {}))

    span = spans.one("process everything.events:happened", SpanKind.CONSUMER)
    assert {key: value for key, value in span.attributes.items() if key.startswith("messaging.")} == {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": "everything.events:happened",
        "messaging.rabbitmq.destination.routing_key": "happened",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
    }


def test_a_message(everything: ServiceContainer, spans: Any, in_worker: Any) -> None:
    with entrypoint_waiter(everything, "work"):
        in_worker(lambda service: service.publish({}, routing_key="job"))

    span = spans.one("process jobs-to-do", SpanKind.CONSUMER)
    assert span.attributes["messaging.destination.name"] == "jobs-to-do"


def test_a_timer(run: Run, spans: Any, eventually: Any) -> None:
    class Clock:
        name = "clock"

        @timer(interval=60, eager=True)
        def tick(self) -> None: ...

    run(Clock)
    eventually(lambda: spans.all)
    span = spans.one("clock.tick", SpanKind.INTERNAL)
    assert span.attributes["nameko.timer.interval_s"] == 60
    assert span.parent is None


def test_a_websocket_call(run: Run, spans: Any, eventually: Any) -> None:
    class Talker:
        name = "talker"

        @websocket_rpc
        def talk(self, socket_id: str) -> str:
            return "hello"

    container = run(Talker)
    (server,) = [each for each in container.shared_extensions.values() if isinstance(each, WebServer)]
    assert server.bound_address is not None
    app, wait_for_socket = make_virtual_socket(server.bound_address.address, server.bound_address.port)
    thread = concurrency.spawn(app.run_forever)
    assert wait_for_socket().rpc("talk") == "hello"
    app.close()
    thread.wait()

    eventually(lambda: spans.all)
    span = spans.one("talker/talk", SpanKind.SERVER)
    assert span.attributes["network.protocol.name"] == "websocket"


# -- HTTP


@pytest.mark.parametrize(
    ("path", "status", "is_error"),
    [
        ("any", 200, False),
        ("created", 201, False),
        ("broken", 502, True),
        ("response", 410, False),
        ("number", 500, True),
        ("wrong", 500, True),
        ("expected", 400, False),
        ("bad", 400, False),
        ("teapot", 418, False),
        ("aborted", 503, True),
    ],
)
def test_the_status_of_an_http_response(
    run: Run, spans: Any, get: Get, eventually: Any, path: str, status: int, is_error: bool
) -> None:
    assert get(run(Everything), f"/things/{path}")[0] == status

    eventually(lambda: spans.all)
    span = spans.one("GET /things/<name>", SpanKind.SERVER)
    assert span.attributes["http.response.status_code"] == status
    assert span.status.status_code is (StatusCode.ERROR if is_error else StatusCode.UNSET)
    assert ("error.type" in span.attributes) == (is_error or path in ("expected", "bad", "teapot"))


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("example.com", {"server.address": "example.com"}),
        ("example.com:8080", {"server.address": "example.com", "server.port": 8080}),
        ("[::1]:8080", {"server.address": "::1", "server.port": 8080}),
        ("example.com:99999", {}),
    ],
)
def test_an_http_request(
    everything: ServiceContainer, spans: Any, get: Get, eventually: Any, host: str, server: dict[str, Any]
) -> None:
    get(everything, "/things/blue?token=secret", **{"User-Agent": "test", "Host": host})

    eventually(lambda: spans.all)
    attributes = dict(spans.one("GET /things/<name>").attributes)
    assert {key: value for key, value in attributes.items() if not key.startswith("nameko.")} == {
        "http.request.method": "GET",
        "http.route": "/things/<name>",
        "http.response.status_code": 200,
        "url.path": "/things/blue",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "user_agent.original": "test",
        **server,
    }


def test_a_response_that_is_made_elsewhere_is_not_guessed(
    everything: ServiceContainer, spans: Any, get: Get, eventually: Any
) -> None:
    assert get(everything, "/cautious")[0] == 409

    eventually(lambda: spans.all)
    span = spans.one("GET /cautious")
    assert "http.response.status_code" not in span.attributes
    assert span.status.status_code is StatusCode.ERROR


def test_the_path_is_left_out_where_arguments_are_sensitive(
    everything: ServiceContainer, spans: Any, get: Get, eventually: Any
) -> None:
    assert get(everything, "/secrets/password")[0] == 200

    eventually(lambda: spans.all)
    span = spans.one("GET /secrets/<secret>")
    assert not [value for value in span.attributes.values() if "password" in str(value)]


# -- arguments


def test_arguments_are_recorded_on_request(run: Run, spans: Any) -> None:
    container = run(Everything, TRACING_ARGUMENTS=True)
    with entrypoint_hook(container, "call") as call:
        call("tea", secret="password")
        call("tea" * 1000)
    with entrypoint_hook(container, "plain") as plain:
        plain(lambda service: None)
        with pytest.raises(TypeError):
            plain(1, 2)

    first, long = spans.named("everything/call")
    assert json.loads(first.attributes["nameko.arguments"]) == {"what": "tea", "secret": "********"}
    assert len(long.attributes["nameko.arguments"]) == 2048
    good, bad = spans.named("everything.plain")
    assert json.loads(good.attributes["nameko.arguments"]) == {"fn": "<function>"}
    assert bad.attributes["nameko.arguments"] == "<TypeError>"


def test_arguments_are_not_recorded_otherwise(everything: ServiceContainer, spans: Any) -> None:
    with entrypoint_hook(everything, "call") as call:
        call("tea")
    assert "tea" not in str(dict(spans.one("everything/call").attributes))


# -- what is current


def test_the_span_is_current_in_the_worker_and_nowhere_else(everything: ServiceContainer, spans: Any) -> None:
    running = concurrency.Event()
    go_on = concurrency.Event()

    def check(name: str) -> Callable[[Any], None]:
        def method(service: Any) -> None:
            trace.get_current_span().set_attribute("who", name)
            if not running.ready():
                running.send(None)
                go_on.wait()
            trace.get_current_span().set_attribute("still", name)

        return method

    with entrypoint_hook(everything, "plain") as plain:
        first = concurrency.spawn(plain, check("first"))
        running.wait()
        assert trace.get_current_span() is trace.INVALID_SPAN
        plain(check("second"))
        go_on.send(None)
        first.wait()

    found = [(span.attributes["who"], span.attributes["still"]) for span in spans.named("everything.plain")]
    assert found == [("second", "second"), ("first", "first")]
    assert trace.get_current_span() is trace.INVALID_SPAN


def test_what_a_worker_leaves_behind_does_not_last(run: Run, spans: Any) -> None:
    # With a single slot, a worker that asks for another one runs it in its own greenthread.
    container = run(Everything, max_workers=1)
    inner_spans: list[Any] = []

    def outer(service: Any) -> None:
        mine = trace.get_current_span()
        entrypoint = next(each for each in container.entrypoints if each.method_name == "plain")
        container.spawn_worker(entrypoint, (inner,), {})
        assert trace.get_current_span() is mine

    def inner(service: Any) -> None:
        inner_spans.append(trace.get_current_span())
        attach(trace.set_span_in_context(trace.get_tracer("test").start_span("left behind")))

    with entrypoint_hook(container, "plain") as plain:
        plain(outer)

    first, second = spans.named("everything.plain")
    assert [first.context.span_id] == [span.get_span_context().span_id for span in inner_spans]
    assert first.parent is None
    assert second.parent is None


def test_dependencies_are_within_the_span(run: Run, spans: Any) -> None:
    class Slow(DependencyProvider):
        def worker_setup(self, worker_ctx: Any) -> None:
            times.append(time.time_ns())

        def worker_teardown(self, worker_ctx: Any) -> None:
            trace.get_current_span().set_attribute("teardown", True)

    class Service:
        name = "service"
        slow = Slow()

        @dummy
        def method(self) -> None: ...

    times: list[int] = []
    with entrypoint_hook(run(Service), "method") as method:
        method()

    span = spans.one("service.method")
    assert span.start_time <= times[0] <= span.end_time
    assert span.attributes["teardown"] is True


# -- workers that are killed


def run_with_a_worker_that_hangs(run: Run) -> ServiceContainer:
    container = run(Everything, SHUTDOWN_TIMEOUT=0)
    running = concurrency.Event()

    def hang(service: Any) -> None:
        running.send(None)
        concurrency.Event().wait()

    entrypoint = next(each for each in container.entrypoints if each.method_name == "plain")
    container.spawn_worker(entrypoint, (hang,), {})
    running.wait()
    return container


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_worker_that_is_killed(run: Run, spans: Any, end: str) -> None:
    container, other = run_with_a_worker_that_hangs(run), run_with_a_worker_that_hangs(run)
    assert spans.all == []

    getattr(container, end)()

    span = spans.one("everything.plain")
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "the worker was killed"
    other.kill()
    assert len(spans.named("everything.plain")) == 2


# -- what is left out


def test_disabled(run: Run, spans: Any) -> None:
    with entrypoint_hook(run(Everything, TRACING_ENABLED=False), "plain") as plain:
        plain(lambda service: service.publish({}, routing_key="job"))
    assert spans.all == []


def test_excluded(run: Run, spans: Any) -> None:
    container = run(Everything, TRACING_EXCLUDE=["nothing.*", "everything.pl*"])
    with entrypoint_hook(container, "plain") as plain, entrypoint_hook(container, "call") as call:
        assert plain(lambda service: trace.get_current_span()) is trace.INVALID_SPAN
        call("tea")
    assert [span.name for span in spans.all] == ["everything/call"]


def test_no_provider(everything: ServiceContainer, in_worker: Any) -> None:
    assert in_worker(lambda service: trace.get_current_span()) is trace.INVALID_SPAN


# -- names


@pytest.mark.parametrize(
    ("entrypoint", "kind"),
    [
        (Rpc(), SpanKind.SERVER),
        (WebSocketRpc(), SpanKind.SERVER),
        (HttpRequestHandler("GET", "/"), SpanKind.SERVER),
        (Cautious("GET", "/"), SpanKind.SERVER),
        (EventHandler("source", "type"), SpanKind.CONSUMER),
        (Consumer(Queue("queue")), SpanKind.CONSUMER),
        (Timer(1), SpanKind.INTERNAL),
        (Entrypoint(), SpanKind.INTERNAL),
    ],
)
def test_every_entrypoint_of_ours_is_known(everything: ServiceContainer, entrypoint: Any, kind: SpanKind) -> None:
    description = describe(entrypoint.bind(everything, "method"))
    assert description.kind is kind
    assert description.is_http is isinstance(entrypoint, HttpRequestHandler)
