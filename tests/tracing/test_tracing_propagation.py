"""One trace across services: who is whose parent, what travels in headers, and what comes from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import amqp
import kombu
import pytest
from kombu import Exchange
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import attach, detach
from opentelemetry.propagators.textmap import TextMapPropagator, default_getter, default_setter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from nameko import concurrency
from nameko.amqp import memory
from nameko.containers import ServiceContainer
from nameko.events import EventDispatcher, event_handler
from nameko.exceptions import RemoteError, UnknownService
from nameko.messaging import Publisher, decode_from_headers
from nameko.rpc import RpcProxy, rpc
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ServiceRpcProxy
from nameko.testing.services import dummy, entrypoint_hook, entrypoint_waiter
from nameko.web.handlers import http

Run = Callable[..., ServiceContainer]
IsParent = Callable[[Any, Any], bool]

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
STALE = "00-11111111111111111111111111111111-2222222222222222-01"
CALLER = (int(TRACE_ID, 16), int(SPAN_ID, 16))


class Stock:
    name = "stock"

    dispatch = EventDispatcher()

    @rpc
    def take(self, article: str) -> str:
        if article == "nothing":
            raise LookupError("none left")
        self.dispatch("taken", article)
        return article


class Shop:
    name = "shop"

    stock = RpcProxy("stock")
    nobody = RpcProxy("nobody")
    publish = Publisher(Exchange("papers", type="topic"))

    @http("GET", "/buy/<article>")
    def buy(self, request: Any, article: str) -> str:
        return self.stock.take(article)

    @dummy
    def run(self, fn: Callable[[Any], Any]) -> Any:
        return fn(self)


class Mail:
    name = "mail"

    @event_handler("stock", "taken")
    def tell(self, article: str) -> None: ...


@pytest.fixture
def stock(run: Run) -> ServiceContainer:
    return run(Stock)


@pytest.fixture
def shop(run: Run, stock: ServiceContainer) -> ServiceContainer:
    return run(Shop)


@pytest.fixture
def in_shop(shop: ServiceContainer) -> Iterator[Callable[..., Any]]:
    """Calls a function in a worker of the shop, with the service instance as its argument."""
    with entrypoint_hook(shop, "run") as run_in_worker:
        yield run_in_worker


@pytest.fixture
def channel(broker_uri: str) -> Iterator[Any]:
    """A client of the broker that knows nothing of nameko."""
    transport = {"transport": memory.Transport} if broker_uri.startswith("memory") else {}
    with kombu.Connection(broker_uri, **transport) as connection:
        yield connection.default_channel


# -- one trace


def test_over_http_rpc_and_an_event(
    shop: ServiceContainer, run: Run, spans: Any, get: Any, eventually: Any, is_parent: IsParent
) -> None:
    with entrypoint_waiter(run(Mail), "tell"):
        assert get(shop, "/buy/tea", traceparent=TRACEPARENT, tracestate="vendor=1") == (200, "tea")

    eventually(lambda: len(spans.all) == 5)
    request = spans.one("GET /buy/<article>", SpanKind.SERVER)
    call = spans.one("stock/take", SpanKind.CLIENT)
    method = spans.one("stock/take", SpanKind.SERVER)
    event = spans.one("send stock.events:taken", SpanKind.PRODUCER)
    handler = spans.one("process stock.events:taken", SpanKind.CONSUMER)
    assert (request.parent.trace_id, request.parent.span_id) == CALLER
    assert request.parent.trace_state["vendor"] == "1"
    assert is_parent(request, call)
    assert is_parent(call, method)
    assert is_parent(method, event)
    assert is_parent(event, handler)
    assert handler.context.trace_state["vendor"] == "1"
    assert call.start_time <= method.start_time <= method.end_time
    assert dict(call.attributes) == {"rpc.system": "nameko", "rpc.service": "stock", "rpc.method": "take"}
    assert event.attributes["messaging.operation.type"] == "send"


def test_a_call_that_is_answered_later(
    in_shop: Callable[..., Any], spans: Any, eventually: Any, is_parent: IsParent
) -> None:
    in_shop(lambda service: service.stock.take.call_async("tea") and None)

    eventually(lambda: len(spans.all) == 4)
    call = spans.one("stock/take", SpanKind.CLIENT)
    assert is_parent(spans.one("shop.run"), call)
    assert is_parent(call, spans.one("stock/take", SpanKind.SERVER))


def test_calls_that_fail(in_shop: Callable[..., Any], spans: Any, eventually: Any) -> None:
    with pytest.raises(RemoteError):
        in_shop(lambda service: service.stock.take("nothing"))
    with pytest.raises(UnknownService):
        in_shop(lambda service: service.nobody.take("tea"))
    with pytest.raises(TypeError):
        in_shop(lambda service: service.publish("daily", colour="red"))

    eventually(lambda: len(spans.all) == 7)
    failed = spans.one("stock/take", SpanKind.CLIENT)
    assert failed.status.status_code is StatusCode.ERROR
    assert failed.attributes["error.type"] == "LookupError"
    assert failed.events[0].attributes["exception.message"] == "LookupError none left"
    assert spans.one("nobody/take").attributes["error.type"] == "nameko.exceptions.UnknownService"
    assert spans.one("send papers").attributes["error.type"] == "TypeError"


def test_a_call_from_a_greenthread_that_the_worker_has_started(
    in_shop: Callable[..., Any], spans: Any, eventually: Any, is_parent: IsParent
) -> None:
    in_shop(lambda service: concurrency.spawn(service.stock.take, "tea").wait())

    eventually(lambda: len(spans.all) == 4)
    assert is_parent(spans.one("shop.run"), spans.one("stock/take", SpanKind.CLIENT))


def test_calls_belong_to_the_span_that_is_current(
    in_shop: Callable[..., Any], spans: Any, eventually: Any, is_parent: IsParent
) -> None:
    def call(service: Any) -> None:
        with trace.get_tracer("test").start_as_current_span("inner"):
            service.stock.take("tea")

    in_shop(call)
    eventually(lambda: len(spans.all) == 5)
    assert is_parent(spans.one("shop.run"), spans.one("inner"))
    assert is_parent(spans.one("inner"), spans.one("stock/take", SpanKind.CLIENT))


def test_baggage_travels(run: Run, stock: ServiceContainer, spans: Any) -> None:
    class Reader:
        name = "reader"

        @rpc
        def read(self) -> Any:
            return baggage.get_baggage("customer")

    class Writer:
        name = "writer"
        reader = RpcProxy("reader")

        @dummy
        def call(self) -> Any:
            token = attach(baggage.set_baggage("customer", "42"))
            try:
                return self.reader.read()
            finally:
                detach(token)

    run(Reader)
    with entrypoint_hook(run(Writer), "call") as call:
        assert call() == "42"


class Reversed(TextMapPropagator):
    """A format of its own: trace and span id, written backwards."""

    def inject(self, carrier: Any, context: Any = None, setter: Any = default_setter) -> None:
        span = trace.get_current_span(context).get_span_context()
        setter.set(carrier, "x-trace", f"{span.trace_id:x}:{span.span_id:x}"[::-1])

    def extract(self, carrier: Any, context: Any = None, getter: Any = default_getter) -> Any:
        if "x-trace" not in getter.keys(carrier):
            return context
        (value,) = getter.get(carrier, "x-trace")
        trace_id, span_id = (int(part, 16) for part in value[::-1].split(":"))
        span = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(1)))
        return trace.set_span_in_context(span, context)

    @property
    def fields(self) -> set[str]:
        return {"x-trace"}


@pytest.mark.parametrize("prefix", ["", "nameko."])
def test_the_propagator_is_the_one_that_is_configured(
    run: Run, shop: ServiceContainer, channel: Any, spans: Any, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setattr(propagate, "_HTTP_TEXT_FORMAT", Reversed())
    queue = bound_queue(channel, "papers")
    entrypoint = next(each for each in shop.entrypoints if each.method_name == "run")
    headers = {f"{prefix}x-trace": f"{TRACE_ID}:{SPAN_ID}"[::-1]}
    with entrypoint_waiter(shop, "run"):
        publish = (lambda service: service.publish("daily"),)
        shop.spawn_worker(entrypoint, publish, {}, context_data=headers, headers=headers)

    parent = spans.one("shop.run").parent
    assert (parent.trace_id, parent.span_id) == CALLER
    sent = received(channel, queue).headers
    assert sent["x-trace"] == f"{CALLER[0]:x}:{spans.one('send papers').context.span_id:x}"[::-1]
    assert "traceparent" not in sent


# -- programs that are no services


def test_a_standalone_proxy(
    stock: ServiceContainer, spans: Any, broker_config: dict[str, Any], eventually: Any, is_parent: IsParent
) -> None:
    with (
        ServiceRpcProxy("stock", broker_config, timeout=20) as proxy,
        trace.get_tracer("test").start_as_current_span("script"),
    ):
        proxy.take("tea")
        reply = proxy.take.call_async("nothing")
        with pytest.raises(RemoteError):
            reply.result()

    eventually(lambda: len(spans.all) == 6)
    for call in spans.named("stock/take", SpanKind.CLIENT):
        assert is_parent(spans.one("script"), call)
    good, bad = spans.named("stock/take", SpanKind.CLIENT)
    assert (good.status.status_code, bad.status.status_code) == (StatusCode.UNSET, StatusCode.ERROR)


def test_a_standalone_dispatcher(
    run: Run, stock: ServiceContainer, spans: Any, broker_config: dict[str, Any], is_parent: IsParent
) -> None:
    dispatch = event_dispatcher(broker_config)
    with entrypoint_waiter(run(Mail), "tell"):
        dispatch("stock", "taken", "tea")
    dispatch.close()

    assert is_parent(spans.one("send stock.events:taken"), spans.one("process stock.events:taken"))
    assert spans.one("send stock.events:taken").parent is None


def test_a_standalone_client_that_is_not_traced(
    run: Run, stock: ServiceContainer, spans: Any, broker_config: dict[str, Any]
) -> None:
    dispatch = event_dispatcher({**broker_config, "TRACING_ENABLED": False})
    with entrypoint_waiter(run(Mail), "tell"):
        dispatch("stock", "taken", "tea")
    dispatch.close()
    assert [span.kind for span in spans.all] == [SpanKind.CONSUMER]


# -- peers that know nothing of traces, or speak nonsense


def send(channel: Any, headers: dict[str, Any]) -> None:
    message = amqp.Message(
        b'"tea"', content_type="application/json", content_encoding="utf-8", application_headers=headers
    )
    channel.basic_publish(message, exchange="stock.events", routing_key="taken")


@pytest.mark.parametrize(
    ("headers", "parent"),
    [
        ({}, None),
        ({"nameko.call_id_stack": ["old.call.1"]}, None),
        ({"traceparent": TRACEPARENT}, CALLER),
        # What a service of nameko 2.14 makes of the header that it was sent itself.
        ({"nameko.traceparent": TRACEPARENT, "nameko.call_id_stack": ["old.call.1"]}, CALLER),
        ({"traceparent": TRACEPARENT, "nameko.traceparent": STALE}, CALLER),
        ({"traceparent": "nonsense"}, None),
        ({"traceparent": "nonsense", "nameko.traceparent": TRACEPARENT}, CALLER),
        ({"traceparent": f"ff-{TRACE_ID}-{SPAN_ID}-01"}, None),
        ({"traceparent": f"00-{'0' * 32}-{SPAN_ID}-01"}, None),
        ({"traceparent": 1}, None),
        ({"traceparent": [TRACEPARENT]}, None),
        ({"traceparent": TRACEPARENT, "tracestate": "=,=" * 1000}, CALLER),
        ({"traceparent": "x" * 10_000}, None),
    ],
)
def test_what_old_and_foreign_peers_send(
    run: Run, stock: ServiceContainer, channel: Any, spans: Any, headers: dict[str, Any], parent: Any
) -> None:
    with entrypoint_waiter(run(Mail), "tell"):
        send(channel, headers)

    span = spans.one("process stock.events:taken")
    assert (span.parent and (span.parent.trace_id, span.parent.span_id)) == parent


def test_a_trace_that_is_not_sampled_is_not_recorded_but_goes_on(
    in_shop: Callable[..., Any], shop: ServiceContainer, channel: Any, spans: Any
) -> None:
    queue = bound_queue(channel, "papers")
    entrypoint = next(each for each in shop.entrypoints if each.method_name == "run")
    headers = {"traceparent": TRACEPARENT[:-1] + "0"}
    shop.spawn_worker(entrypoint, (lambda service: service.publish("daily"),), {}, headers=headers)

    sent = received(channel, queue).headers["traceparent"]
    assert sent.startswith(f"00-{TRACE_ID}-")
    assert sent.endswith("-00")
    assert spans.all == []


def bound_queue(channel: Any, exchange: str) -> str:
    queue = str(channel.queue_declare("", exclusive=True).queue)
    channel.queue_bind(queue, exchange, "#")
    return queue


def received(channel: Any, queue: str) -> Any:
    for _ in range(500):
        message = channel.basic_get(queue, no_ack=True)
        if message is not None:
            return message
        concurrency.sleep(0.01)
    raise AssertionError("no message within 5 s")


def test_what_is_sent_is_plain_text_that_any_peer_can_ignore(
    in_shop: Callable[..., Any], channel: Any, spans: Any
) -> None:
    queue = bound_queue(channel, "papers")
    in_shop(lambda service: service.publish("daily"))

    message = received(channel, queue)
    added = {name: value for name, value in message.headers.items() if not name.startswith("nameko.")}
    span = spans.one("send papers").context
    assert added == {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}


@pytest.mark.parametrize("headers", [{"traceparent": TRACEPARENT}, {"nameko.traceparent": TRACEPARENT}])
def test_nothing_stale_is_sent_on(
    run: Run, shop: ServiceContainer, channel: Any, spans: Any, headers: dict[str, str]
) -> None:
    # The context data has it, as it has every header.
    queue = bound_queue(channel, "papers")
    entrypoint = next(each for each in shop.entrypoints if each.method_name == "run")
    data = {"traceparent": TRACEPARENT, "tracestate": "vendor=1", "language": "en"}
    publish = (lambda service: service.publish("daily"),)
    shop.spawn_worker(entrypoint, publish, {}, context_data=data, headers=headers)

    sent = received(channel, queue).headers
    assert sent["traceparent"].startswith(f"00-{TRACE_ID}-")
    assert SPAN_ID not in sent["traceparent"]
    assert sent["nameko.language"] == "en"
    assert sorted(name for name in sent if "trace" in name) == ["traceparent"]


def test_context_data_that_services_call_baggage_is_theirs(run: Run, shop: ServiceContainer, channel: Any) -> None:
    queue = bound_queue(channel, "papers")
    entrypoint = next(each for each in shop.entrypoints if each.method_name == "run")
    headers = {"traceparent": TRACEPARENT, "baggage": "customer=42", "nameko.baggage": ["suitcase"]}
    publish = (lambda service: service.publish("daily"),)
    shop.spawn_worker(entrypoint, publish, {}, context_data=decode_from_headers(headers), headers=headers)

    sent = received(channel, queue).headers
    assert (sent["baggage"], sent["nameko.baggage"]) == ("customer=42", ["suitcase"])
    assert "nameko.traceparent" not in sent


# -- without a span of one's own


def test_an_excluded_entrypoint_passes_the_context_on(
    run: Run, stock: ServiceContainer, spans: Any, eventually: Any
) -> None:
    shop = run(Shop, TRACING_EXCLUDE=["shop.run"])
    entrypoint = next(each for each in shop.entrypoints if each.method_name == "run")
    call = (lambda service: service.stock.take("tea"),)
    shop.spawn_worker(entrypoint, call, {}, headers={"traceparent": TRACEPARENT})
    eventually(lambda: len(spans.all) == 3)

    (server,) = spans.named("stock/take", SpanKind.SERVER)
    (client,) = spans.named("stock/take", SpanKind.CLIENT)
    assert (client.parent.trace_id, client.parent.span_id) == CALLER
    assert server.parent.span_id == client.context.span_id


@pytest.mark.parametrize("header", ["traceparent", "nameko.traceparent"])
def test_without_a_provider_the_context_is_passed_on(
    shop: ServiceContainer, in_shop: Callable[..., Any], channel: Any, header: str
) -> None:
    queue = bound_queue(channel, "papers")
    entrypoint = next(each for each in shop.entrypoints if each.method_name == "run")
    publish = (lambda service: service.publish("daily"),)
    shop.spawn_worker(entrypoint, publish, {}, headers={header: TRACEPARENT})
    assert received(channel, queue).headers["traceparent"] == TRACEPARENT

    in_shop(lambda service: service.publish("daily"))
    assert "traceparent" not in received(channel, queue).headers
