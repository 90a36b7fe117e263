"""What observers get to see of the calls that leave: each kind of call, from services and from other programs."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from kombu import Exchange, Queue

from nameko import concurrency
from nameko.amqp.publish import Publisher as AmqpPublisher
from nameko.containers import ServiceContainer
from nameko.events import EventDispatcher, event_handler
from nameko.exceptions import RemoteError, RpcTimeout, UnknownService
from nameko.messaging import Publisher, consume
from nameko.observers import Observers
from nameko.outgoing_calls import MAX_ADDED_BYTES, OutgoingCall, observers_outside_services
from nameko.plugins import PluginManager, hookimpl
from nameko.rpc import ClusterRpc, MethodProxy, ReplyListener, RpcProxy, ServiceProxy, rpc
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ClusterRpcProxy, ServiceRpcProxy
from nameko.testing.services import entrypoint_hook, entrypoint_waiter

JOBS = Exchange("jobs", type="topic")
Eventually = Callable[..., Any]


class Watcher:
    """A plugin that puts a header on each call, and keeps what it sees."""

    def __init__(self) -> None:
        self.started: list[OutgoingCall] = []
        self.finished: list[tuple[OutgoingCall, Any, float]] = []
        self.threads: list[int] = []
        self.header: dict[Any, Any] = {"x-seen": "yes"}

    @hookimpl
    def nameko_call_started(self, call: OutgoingCall) -> None:
        self.started.append(call)
        self.threads.append(threading.get_ident())
        call.headers.update(self.header)

    @hookimpl
    def nameko_call_finished(self, call: OutgoingCall, exc_info: Any, duration_s: float) -> None:
        assert call in self.started
        assert duration_s >= 0
        self.finished.append((call, exc_info[1] if exc_info else None, duration_s))

    @property
    def calls(self) -> list[tuple[str, str, str]]:
        return [(call.kind, call.destination, call.operation) for call in self.started]

    @property
    def outcomes(self) -> list[Any]:
        return [exc for _, exc, _ in self.finished]


class Shop:
    name = "shop"

    @rpc
    def buy(self, article: str) -> str:
        if article == "nothing":
            raise ValueError("nothing to buy")
        return f"bought {article}"

    @rpc
    def ponder(self) -> None:
        concurrency.sleep(60)

    @event_handler("buyer", "paid")
    def ship(self, article: str) -> None: ...

    @consume(Queue("jobs-to-do", exchange=JOBS, routing_key="job"))
    def work(self, job: str) -> None: ...


class OwnPublisher(Publisher):
    publisher_cls = type("OwnAmqpPublisher", (AmqpPublisher,), {})


class OwnMethodProxy(MethodProxy):
    publisher_cls = type("OwnAmqpPublisher", (AmqpPublisher,), {})


class Buyer:
    name = "buyer"

    shop = RpcProxy("shop")
    cluster = ClusterRpc(headers={"x-own": "kept", "x-seen": "no"})
    dispatch = EventDispatcher(headers={"x-own": "kept"})
    publish = Publisher(JOBS, routing_key="job")
    publish_unconfirmed = Publisher(JOBS, use_confirms=False)
    publish_on_its_own = OwnPublisher(JOBS)

    @rpc
    def run(self, what: Callable[[Buyer], Any]) -> Any:
        return what(self)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


class Incoming:
    """The headers that the workers of a service were started with, by the names of their methods."""

    def __init__(self) -> None:
        self.headers: dict[str, Any] = {}

    @hookimpl
    def nameko_worker_started(self, worker_ctx: Any) -> None:
        self.headers[worker_ctx.entrypoint.method_name] = worker_ctx.headers


@pytest.fixture
def incoming() -> Incoming:
    return Incoming()


@pytest.fixture
def run(
    broker_config: dict[str, Any],
    start_container: Callable[..., ServiceContainer],
    watcher: Watcher,
    incoming: Incoming,
) -> Callable[[type], ServiceContainer]:
    def run_service(service_cls: type) -> ServiceContainer:
        plugin = watcher if service_cls is Buyer else incoming
        return start_container(service_cls, dict(broker_config), PluginManager.with_plugins({"watch": plugin}))

    return run_service


@pytest.fixture
def shop(run: Callable[[type], ServiceContainer]) -> ServiceContainer:
    return run(Shop)


@pytest.fixture
def buyer(run: Callable[[type], ServiceContainer], shop: ServiceContainer) -> Iterator[Callable[..., Any]]:
    """Runs a function in a worker of the buyer, with the service as its argument."""
    with entrypoint_hook(run(Buyer), "run") as run_in_worker:
        yield run_in_worker


def test_a_request(buyer: Callable[..., Any], watcher: Watcher, incoming: Incoming) -> None:
    assert buyer(lambda service: service.shop.buy("tea")) == "bought tea"

    assert watcher.calls == [("rpc", "shop", "buy")]
    assert watcher.outcomes == [None]
    (call,) = watcher.started
    assert call.worker_ctx is not None
    assert call.worker_ctx.service_name == "buyer"
    assert incoming.headers["buy"]["x-seen"] == "yes"
    assert incoming.headers["buy"]["nameko.call_id_stack"] == call.worker_ctx.call_id_stack
    assert repr(call) == "<OutgoingCall rpc shop buy>"


def test_a_request_of_a_cluster_proxy_keeps_its_own_headers(buyer: Callable[..., Any], incoming: Incoming) -> None:
    buyer(lambda service: service.cluster.shop.buy.with_options(priority=1)("tea"))

    headers = incoming.headers["buy"]
    assert (headers["x-own"], headers["x-seen"]) == ("kept", "yes")


def test_a_request_that_fails(buyer: Callable[..., Any], watcher: Watcher) -> None:
    with pytest.raises(RemoteError) as raised:
        buyer(lambda service: service.shop.buy("nothing"))
    with pytest.raises(UnknownService) as unknown:
        buyer(lambda service: service.cluster.nobody.buy("tea"))

    assert watcher.outcomes == [raised.value, unknown.value]


def test_a_request_that_is_answered_later(buyer: Callable[..., Any], watcher: Watcher, eventually: Eventually) -> None:
    # Whether or not anybody asks for the result.
    buyer(lambda service: service.shop.buy.call_async("tea") and None)
    eventually(lambda: watcher.outcomes == [None])

    buyer(lambda service: service.shop.buy.call_async("nothing") and None)
    eventually(lambda: len(watcher.finished) == 2)
    assert str(watcher.outcomes[1]) == "ValueError nothing to buy"

    assert buyer(lambda service: service.shop.buy.call_async("tea").result()) == "bought tea"
    eventually(lambda: len(watcher.finished) == 3)


def test_a_request_that_cannot_be_sent(buyer: Callable[..., Any], watcher: Watcher) -> None:
    with pytest.raises(UnknownService):
        buyer(lambda service: service.cluster.nobody.buy.call_async("tea"))

    assert [type(exc) for exc in watcher.outcomes] == [UnknownService]


def test_a_request_whose_caller_is_not_there_any_more(
    buyer: Callable[..., Any], watcher: Watcher, shop: ServiceContainer, eventually: Eventually
) -> None:
    with pytest.raises(ZeroDivisionError):
        buyer(_gives_up_while_waiting)

    assert [type(exc) for exc in watcher.outcomes] == [ZeroDivisionError]


def _gives_up_while_waiting(service: Any) -> None:
    with concurrency.cancel_after(0, ZeroDivisionError()):
        service.shop.buy("tea")


@pytest.mark.parametrize("own_publisher", [False, True])
def test_a_request_through_a_proxy_of_nameko_2(
    run: Callable[[type], ServiceContainer],
    buyer: Callable[..., Any],
    watcher: Watcher,
    incoming: Incoming,
    own_publisher: bool,
) -> None:
    def call(service: Any) -> Any:
        worker_ctx = service.shop._context
        (replies,) = [each for each in worker_ctx.container.extensions if isinstance(each, ReplyListener)]
        if not own_publisher:
            return ServiceProxy(worker_ctx, "shop", replies, headers={"x-own": "kept"}).buy("tea")
        return OwnMethodProxy(worker_ctx, "shop", "buy", replies, headers={"x-own": "kept"})("tea")

    assert buyer(call) == "bought tea"
    assert watcher.calls == [("rpc", "shop", "buy")]
    assert watcher.outcomes == [None]
    assert (incoming.headers["buy"]["x-own"], incoming.headers["buy"]["x-seen"]) == ("kept", "yes")


def test_an_event(buyer: Callable[..., Any], watcher: Watcher, incoming: Incoming, shop: ServiceContainer) -> None:
    with entrypoint_waiter(shop, "ship"):
        buyer(lambda service: service.dispatch("paid", "tea"))

    assert watcher.calls == [("event", "buyer.events", "paid")]
    assert watcher.outcomes == [None]
    assert (incoming.headers["ship"]["x-own"], incoming.headers["ship"]["x-seen"]) == ("kept", "yes")


@pytest.mark.parametrize(
    "publish",
    [
        lambda service: service.publish("job"),
        lambda service: service.publish_unconfirmed("job", routing_key="job"),
        lambda service: service.publish_on_its_own("job", routing_key="job"),
        lambda service: service.publish("job", exchange=JOBS),
    ],
)
def test_a_message(
    buyer: Callable[..., Any], watcher: Watcher, incoming: Incoming, shop: ServiceContainer, publish: Any
) -> None:
    with entrypoint_waiter(shop, "work"):
        buyer(publish)

    assert watcher.calls == [("message", "jobs", "job")]
    assert watcher.outcomes == [None]
    assert incoming.headers["work"]["x-seen"] == "yes"


def test_a_message_that_cannot_be_sent(buyer: Callable[..., Any], watcher: Watcher) -> None:
    with pytest.raises(TypeError) as raised:
        buyer(lambda service: service.publish("job", colour="red"))

    assert watcher.outcomes == [raised.value]


@pytest.mark.parametrize(
    "header",
    [{1: "number"}, {"x-number": 1}, {"x" * 256: "name"}, {"x-long": "x" * MAX_ADDED_BYTES}, {"x-surrogate": "\ud800"}],
)
def test_a_header_that_no_message_can_carry_is_left_out(
    buyer: Callable[..., Any],
    watcher: Watcher,
    incoming: Incoming,
    header: dict[Any, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    watcher.header = {**header, "x-good": "good"}
    assert buyer(lambda service: service.shop.buy("tea")) == "bought tea"

    assert not header.keys() & incoming.headers["buy"].keys()
    assert incoming.headers["buy"]["x-good"] == "good"
    assert "is left out of <OutgoingCall rpc shop buy>" in caplog.text


def test_an_observer_that_raises_fails_no_call(
    run: Callable[[type], ServiceContainer], shop: ServiceContainer, caplog: pytest.LogCaptureFixture
) -> None:
    container = run(Buyer)

    def fail(**arguments: Any) -> None:
        raise ZeroDivisionError

    with (
        container.observers.attached("broken", call_started=fail, call_finished=fail),
        entrypoint_hook(container, "run") as buyer,
    ):
        assert buyer(lambda service: service.shop.buy("tea")) == "bought tea"
        buyer(lambda service: service.dispatch("paid", "tea"))

    assert [record.getMessage() for record in caplog.records if "plugin broken" in record.getMessage()] == [
        "plugin broken: observer 'fail' failed and is ignored",
        "plugin broken: observer 'fail' failed 3 more times and is ignored, most recently with ZeroDivisionError",
    ]


def test_a_call_that_is_only_observed_at_its_end(
    broker_config: dict[str, Any], shop: ServiceContainer, watcher: Watcher
) -> None:
    container = ServiceContainer(Buyer, dict(broker_config), plugins=PluginManager.with_plugins({}))
    container.start()
    outcomes = []
    with (
        container.observers.attached("end", call_finished=lambda call, exc_info, duration_s: outcomes.append(exc_info)),
        entrypoint_hook(container, "run") as buyer,
    ):
        assert buyer(lambda service: service.shop.buy("tea")) == "bought tea"
    container.kill()
    assert outcomes == [None]


def test_nobody_observes(broker_config: dict[str, Any], shop: ServiceContainer, incoming: Incoming) -> None:
    container = ServiceContainer(Buyer, dict(broker_config), plugins=PluginManager.with_plugins({}))
    container.start()
    with entrypoint_hook(container, "run") as buyer:
        assert buyer(lambda service: service.shop.buy("tea")) == "bought tea"
    container.kill()
    assert "x-seen" not in incoming.headers["buy"]


# -- programs that are no services


@pytest.fixture
def watched(watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of a program that has the watcher as its only plugin."""
    module = ModuleType(f"watcher_{uuid.uuid4().hex}")  # managers of plugins are kept, by the plugins' names
    module.watcher = watcher  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return {"plugins": {"only": [], "load": [f"{module.__name__}:watcher"]}}


@pytest.fixture
def outside(broker_config: dict[str, Any], watched: dict[str, Any]) -> dict[str, Any]:
    return {**broker_config, **watched}


def test_a_standalone_proxy(outside: dict[str, Any], shop: ServiceContainer, watcher: Watcher, incoming: Any) -> None:
    with ServiceRpcProxy("shop", outside) as proxy:
        assert proxy.buy("tea") == "bought tea"
        with pytest.raises(RemoteError) as raised:
            proxy.buy("nothing")

    assert watcher.calls == [("rpc", "shop", "buy")] * 2
    assert watcher.outcomes == [None, raised.value]
    assert watcher.started[0].worker_ctx is None
    assert incoming.headers["buy"]["x-seen"] == "yes"


def test_a_standalone_proxy_that_is_asked_later(
    outside: dict[str, Any], shop: ServiceContainer, watcher: Watcher
) -> None:
    with ClusterRpcProxy(outside) as proxy:
        good, bad = proxy.shop.buy.call_async("tea"), proxy.shop.buy.call_async("nothing")
        assert watcher.outcomes == []
        assert [good.result(), good.result()] == ["bought tea", "bought tea"]
        with pytest.raises(RemoteError):
            bad.result()
        assert [str(exc) for exc in watcher.outcomes] == ["None", "ValueError nothing to buy"]

        forgotten = proxy.shop.buy.call_async("tea")
        assert len(watcher.finished) == 2
        del forgotten
        assert watcher.outcomes[2:] == [None]

        late = proxy.shop.ponder.with_options(timeout=0.5).call_async()
        with pytest.raises(RpcTimeout) as raised:
            late.result()
    assert watcher.outcomes[3:] == [raised.value]


@pytest.mark.rabbitmq
def test_a_plain_thread(rabbitmq_uri: str, watcher: Watcher, watched: dict[str, Any]) -> None:
    def call() -> None:
        with ClusterRpcProxy({"AMQP_URI": rabbitmq_uri, **watched}) as proxy, pytest.raises(UnknownService):
            proxy.nobody.buy("tea")

    concurrency.run_in_native_thread(call)
    assert watcher.calls == [("rpc", "nobody", "buy")]
    assert [type(exc) for exc in watcher.outcomes] == [UnknownService]
    assert watcher.threads != [threading.get_ident()]


def test_a_standalone_dispatcher(
    outside: dict[str, Any], shop: ServiceContainer, watcher: Watcher, incoming: Incoming
) -> None:
    with entrypoint_waiter(shop, "ship"):
        dispatch = event_dispatcher(outside, headers={"x-own": "kept"})
        dispatch("buyer", "paid", "tea")
        dispatch.close()

    assert watcher.calls == [("event", "buyer.events", "paid")]
    assert watcher.outcomes == [None]
    assert (incoming.headers["ship"]["x-own"], incoming.headers["ship"]["x-seen"]) == ("kept", "yes")


def test_a_plugin_that_cannot_be_loaded_keeps_no_program_from_calling(caplog: pytest.LogCaptureFixture) -> None:
    observers = observers_outside_services({"plugins": {"load": ["plugin_that_is_not_there"]}})

    assert not observers.observe_calls
    assert "nothing observes calls from here: plugin 'plugin_that_is_not_there'" in caplog.text


class Blocker:
    """A plugin that holds up each call."""

    def __init__(self) -> None:
        self.reached = concurrency.Event()

    @hookimpl(trylast=True)
    def nameko_call_started(self) -> None:
        self.reached.send(None)
        concurrency.Event().wait()


def test_a_caller_that_is_killed_in_an_observer(watcher: Watcher) -> None:
    blocker = Blocker()
    observers = Observers(PluginManager.with_plugins({"watcher": watcher, "blocker": blocker}).observers)

    def call() -> None:
        with OutgoingCall(observers, "event", "shop.events", "sold", None, {}):
            pytest.fail("nothing is to be sent")

    caller = concurrency.spawn_task(call)
    blocker.reached.wait()
    caller.kill()

    assert watcher.calls == [("event", "shop.events", "sold")]
    assert [type(exc) for exc in watcher.outcomes] == [concurrency.GreenletExit]
