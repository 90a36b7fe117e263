"""Calls from service to service, and from outside: results, errors, deadlines, context."""

from __future__ import annotations

import copy
import gc
import pickle
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from kombu.exceptions import EncodeError

from nameko import concurrency
from nameko.amqp import Retry
from nameko.containers import ServiceContainer
from nameko.exceptions import (
    ConfigurationError,
    IncorrectSignature,
    MalformedRequest,
    MethodNotFound,
    RemoteError,
    RpcTimeout,
    UnknownService,
    deserialize_to_instance,
)
from nameko.extensions import DependencyProvider
from nameko.rpc import Client, ClusterRpc, MethodProxy, Rpc, RpcProxy, RpcReply, ServiceProxy, rpc
from nameko.standalone.rpc import ClusterRpcProxy, ServiceRpcProxy
from nameko.testing.services import dummy, entrypoint_hook

Start = Callable[..., ServiceContainer]
Eventually = Callable[..., Any]


@deserialize_to_instance
class OutOfStock(Exception):
    pass


class Outcomes(DependencyProvider):
    """Keeps what `worker_result` is called with."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, Any]] = []

    def worker_result(self, worker_ctx: Any, result: Any = None, exc_info: Any = None) -> None:
        self.seen.append((result, exc_info))


class Shop:
    name = "shop"

    outcomes = Outcomes()

    @rpc
    def echo(self, *args: Any, **kwargs: Any) -> Any:
        return [list(args), kwargs]

    @rpc
    def price(self, article: str, discount: int = 0) -> int:
        return len(article) - discount

    @rpc
    def sold_out(self) -> None:
        raise OutOfStock("cups", "1")

    @rpc(expected_exceptions=KeyError)
    def misplaced(self) -> None:
        raise KeyError("shelf")

    @rpc
    def broken(self, how: str) -> Any:
        raise {
            "timeout": concurrency.Timeout(None),
            "exit": SystemExit(3),
            "interrupt": KeyboardInterrupt(),
            "killed": concurrency.GreenletExit(),
            "value": ValueError("ü", 1, None, {"a": (1, 2)}),
        }[how]

    @rpc
    def unserializable(self) -> object:
        return object()

    @rpc
    def not_a_number(self) -> float:
        return float("nan")

    @rpc
    def blob(self, size: int) -> str:
        return "x" * size

    @rpc
    def long_error(self, size: int) -> None:
        raise ValueError("x" * size)

    @rpc
    def sleep(self, seconds: float) -> float:
        concurrency.sleep(seconds)
        return seconds

    def private(self) -> None:
        raise AssertionError("nobody can call this")


class Customer:
    name = "customer"

    shop = RpcProxy("shop")
    cluster = ClusterRpc()
    impatient = RpcProxy("shop", timeout=0.2)
    nobody = RpcProxy("nobody")

    @rpc
    def ask(self, article: str) -> Any:
        return self.shop.price(article)

    @dummy
    def call(self, fn: Callable[..., Any]) -> Any:
        return fn(self)


@pytest.fixture
def customer(start: Start) -> ServiceContainer:
    start(Shop)
    return start(Customer)


@pytest.fixture
def act(customer: ServiceContainer) -> Callable[..., Any]:
    """`act(fn)` runs `fn(service)` in a worker of the customer."""

    def run(fn: Callable[[Any], Any], **context_data: Any) -> Any:
        with entrypoint_hook(customer, "call", context_data) as call:
            return call(fn)

    return run


def pending(container: ServiceContainer) -> int:
    listener = next(each for each in container.extensions if type(each).__name__ == "ReplyListener")
    return len(listener.pending)


def depth(raw: Any, queue: str) -> int:
    return int(raw.channel.queue_declare(queue, passive=True).message_count)


# -- results


@pytest.mark.parametrize("value", [None, "hellø", 1.5, [1, {"a": None}], {"": True}, "x" * 200_000])
def test_result_comes_back(start: Start, cluster: Any, value: Any) -> None:
    start(Shop)
    assert cluster.shop.echo(value, key=value) == [[value], {"key": value}]


def test_service_calls_service(start: Start, cluster: Any) -> None:
    start(Shop)
    start(Customer)
    assert cluster.customer.ask("teapot") == 6


def test_many_calls_at_once_each_get_their_own_result(act: Callable[..., Any], customer: ServiceContainer) -> None:
    def many(service: Any) -> list[Any]:
        calls = [service.shop.echo.call_async(number) for number in range(100)]
        return [call.result()[0][0] for call in reversed(calls)]

    assert act(many) == list(reversed(range(100)))
    assert pending(customer) == 0


def test_result_can_be_asked_for_again(act: Callable[..., Any]) -> None:
    def twice(service: Any) -> Any:
        reply = service.shop.price.call_async("cup")
        return reply.result(), reply.result(), reply.get_response()

    assert act(twice) == (3, 3, {"result": 3, "error": None})


def test_reply_of_ones_own_making() -> None:
    class Bodies:
        def __init__(self) -> None:
            self.bodies = [{"result": 1, "error": None}]

        def wait(self) -> dict[str, Any]:
            return self.bodies.pop()

    reply = RpcReply(Bodies())
    assert (reply.result(), reply.result()) == (1, 1)


def test_error_can_be_asked_for_again(act: Callable[..., Any]) -> None:
    def twice(service: Any) -> list[str]:
        reply = service.shop.sold_out.call_async()
        errors = []
        for _ in range(2):
            with pytest.raises(OutOfStock) as raised:
                reply.result()
            errors.append(str(raised.value))
        return errors

    assert act(twice) == ["('cups', '1')"] * 2


def test_call_async_returns_before_the_method_has_run(act: Callable[..., Any]) -> None:
    def start_and_wait(service: Any) -> float:
        started = time.monotonic()
        reply = service.shop.sleep.call_async(0.5)
        took = time.monotonic() - started
        reply.result()
        return took

    assert act(start_and_wait) < 0.4


def test_nothing_is_left_of_a_call(act: Callable[..., Any], customer: ServiceContainer) -> None:
    def call_and_forget(service: Any) -> Any:
        call = service.shop.price.call_async("cup")
        assert call.result() == 3
        return weakref.ref(call)

    gc.disable()  # without help from the garbage collector, so there are no cycles
    try:
        assert act(call_and_forget)() is None
    finally:
        gc.enable()
    assert pending(customer) == 0


# -- errors


def test_registered_exception_comes_back_as_itself(act: Callable[..., Any]) -> None:
    with pytest.raises(OutOfStock) as raised:
        act(lambda service: service.shop.sold_out())
    assert raised.value.args == ("cups", "1")


@pytest.mark.parametrize(
    ("how", "exc_type"),
    [
        ("value", "ValueError"),
        ("timeout", "Timeout"),
        ("exit", "SystemExit"),
        ("interrupt", "KeyboardInterrupt"),
        ("killed", "GreenletExit"),
    ],
)
def test_whatever_a_method_raises_comes_back_and_frees_its_worker(
    start: Start, cluster: Any, how: str, exc_type: str
) -> None:
    start(Shop, max_workers=1)
    for _ in range(3):
        with pytest.raises(RemoteError) as raised:
            cluster.shop.broken(how)
        assert raised.value.exc_type == exc_type
    assert cluster.shop.price("cup") == 3


def test_unknown_method(act: Callable[..., Any]) -> None:
    with pytest.raises(MethodNotFound, match=r"^nothing$"):
        act(lambda service: service.shop.nothing())
    for name in ("private", "__init__", "outcomes"):
        with pytest.raises(MethodNotFound):
            act(lambda service, name=name: service.shop[name]())


def test_wrong_arguments(act: Callable[..., Any]) -> None:
    with pytest.raises(IncorrectSignature, match="missing a required argument: 'article'"):
        act(lambda service: service.shop.price())
    with pytest.raises(IncorrectSignature, match="got an unexpected keyword argument 'colour'"):
        act(lambda service: service.shop.price("cup", colour="red"))


def test_unknown_service_is_told_at_once_and_leaves_nothing(
    act: Callable[..., Any], customer: ServiceContainer
) -> None:
    started = time.monotonic()
    for _ in range(20):
        with pytest.raises(UnknownService, match="Unknown service `nobody`"):
            act(lambda service: service.nobody.method())
        with pytest.raises(UnknownService):
            act(lambda service: service.nobody.method.call_async())
    assert time.monotonic() - started < 10
    assert pending(customer) == 0


def test_unserializable_arguments_are_the_callers_error(act: Callable[..., Any], customer: ServiceContainer) -> None:
    with pytest.raises(Exception, match="cannot serialize"):
        act(lambda service: service.shop.echo(object()))
    assert pending(customer) == 0


def test_unserializable_result(start: Start, cluster: Any, eventually: Eventually) -> None:
    container = start(Shop)
    with pytest.raises(RemoteError, match="Unserializable value: `<object object at") as raised:
        cluster.shop.unserializable()
    assert raised.value.exc_type == "UnserializableValueError"
    # What the dependencies get to see is the serializer's own complaint.
    outcomes = next(each for each in container.dependencies if isinstance(each, Outcomes))
    ((result, exc_info),) = eventually(lambda: outcomes.seen)
    assert result is None
    assert "object" in str(exc_info[1])


def test_not_a_number_is_no_json(start: Start, cluster: Any) -> None:
    start(Shop)
    with pytest.raises(RemoteError, match="Unserializable value: `nan`"):
        cluster.shop.not_a_number()


@pytest.mark.parametrize("method", ["blob", "long_error"])
def test_result_that_is_too_big(start: Start, cluster: Any, method: str) -> None:
    start(Shop, MAX_MESSAGE_BYTES=10_000)
    with pytest.raises(RemoteError) as raised:
        cluster.shop[method](10_000)
    assert len(str(raised.value)) < 9_000
    assert cluster.shop.blob(9_000) == "x" * 9_000


def test_errors_are_hidden_on_request_but_for_those_that_are_expected(
    start: Start, cluster: Any, caplog: pytest.LogCaptureFixture
) -> None:
    start(Shop, EXPOSE_ERRORS=False)
    with pytest.raises(RemoteError) as raised:
        cluster.shop.broken("value")
    assert raised.value.exc_type == "InternalError"
    assert "ü" not in str(raised.value)
    error_id = raised.value.value.rpartition(" ")[2]
    assert any(error_id in record.getMessage() and "ü" in record.getMessage() for record in caplog.records)
    with pytest.raises(RemoteError, match="KeyError 'shelf'"):
        cluster.shop.misplaced()
    with pytest.raises(RemoteError, match="InternalError"):
        cluster.shop.unserializable()
    with pytest.raises(MethodNotFound):
        cluster.shop.nothing()


class Unlucky:
    name = "unlucky"
    fails = True

    def __init__(self) -> None:
        if Unlucky.fails:
            raise SystemExit("cannot be made")

    @rpc
    def method(self) -> int:
        return 1


def test_service_class_that_cannot_be_made(start: Start, cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    start(Unlucky)
    with pytest.raises(RemoteError, match="SystemExit cannot be made"):
        cluster.unlucky.method()
    monkeypatch.setattr(Unlucky, "fails", False)
    assert cluster.unlucky.method() == 1


# -- deadlines


def test_deadline_of_a_proxy(act: Callable[..., Any], customer: ServiceContainer) -> None:
    started = time.monotonic()
    with pytest.raises(RpcTimeout, match=r"no reply from `shop\.sleep` within 0\.2 s"):
        act(lambda service: service.impatient.sleep(1))
    assert 0.15 < time.monotonic() - started < 0.6
    assert pending(customer) == 0


def test_deadline_of_one_call(act: Callable[..., Any]) -> None:
    with pytest.raises(RpcTimeout):
        act(lambda service: service.shop.sleep.with_options(timeout=0.2)(1))
    assert act(lambda service: service.impatient.with_options(timeout=5).sleep(0.4)) == 0.4


def test_call_from_a_native_thread_is_refused_and_later_ones_have_their_deadlines(act: Callable[..., Any]) -> None:
    def call_from_native_thread(service: Any) -> None:
        concurrency.run_in_native_thread(service.impatient.sleep, 1)

    with concurrency.Timeout(5), pytest.raises(RuntimeError, match=r"customer: messages cannot be sent .* native"):
        act(call_from_native_thread)
    with concurrency.Timeout(5), pytest.raises(RpcTimeout):
        act(lambda service: service.shop.sleep.with_options(timeout=0.3)(1))


def test_deadline_from_the_configuration(start: Start, cluster: Any) -> None:
    start(Shop)
    start(Customer, RPC_TIMEOUT=0.2)
    # The customer's deadline passes while all workers of the shop are busy.
    calls = [cluster.shop.sleep.call_async(0.6) for _ in range(10)]
    with pytest.raises(RemoteError, match=r"RpcTimeout no reply from `shop\.price` within 0\.2 s"):
        cluster.customer.ask("cup")
    assert [call.result() for call in calls] == [0.6] * 10


def test_result_of_a_call_that_ended_before_its_deadline_can_be_fetched_after_it(
    act: Callable[..., Any], eventually: Eventually
) -> None:
    def fetch_late(service: Any) -> Any:
        reply = service.impatient.price.call_async("cup")
        eventually(lambda: time.monotonic() > reply.deadline)
        return reply.result()

    assert act(fetch_late) == 3


def test_late_reply_is_dropped_and_acknowledged(
    act: Callable[..., Any], customer: ServiceContainer, eventually: Eventually
) -> None:
    listener = next(each for each in customer.extensions if type(each).__name__ == "ReplyListener")
    with pytest.raises(RpcTimeout):
        act(lambda service: service.impatient.sleep(0.4))
    eventually(lambda: listener.broker.counters["replies_late"] == 1)
    assert pending(customer) == 0
    assert act(lambda service: service.shop.price("cup")) == 3


def test_caller_that_gives_up_leaves_nothing(
    act: Callable[..., Any], customer: ServiceContainer, eventually: Eventually
) -> None:
    def give_up(service: Any) -> str:
        with pytest.raises(concurrency.Timeout), concurrency.Timeout(0.1):
            service.shop.sleep(5)
        return "gave up"

    assert act(give_up) == "gave up"
    assert pending(customer) == 0

    thread = concurrency.spawn(act, lambda service: service.shop.sleep(5))
    eventually(lambda: pending(customer) == 1)
    (worker,) = customer._worker_threads.values()
    worker.kill()
    eventually(lambda: pending(customer) == 0)
    thread.kill()


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("inf"), float("nan")])
def test_timeout_that_is_none(start: Start, timeout: Any) -> None:
    class Odd:
        name = "odd"
        shop = RpcProxy("shop", timeout=timeout)

        @rpc
        def method(self) -> None: ...

    with pytest.raises(ConfigurationError, match="timeout must be a number of seconds above 0"):
        start(Odd)


@pytest.mark.parametrize(("service", "given"), [(5, "int"), (None, "NoneType"), ("", "an empty one"), ({}, "dict")])
def test_target_that_is_no_name(service: Any, given: str, memory_uri: str) -> None:
    with pytest.raises(ConfigurationError, match=f"ServiceRpc takes the name of a service, a string, not {given}"):
        RpcProxy(service)
    with pytest.raises(ConfigurationError, match=f"ServiceRpcProxy takes the name of a service.*, not {given}"):
        ServiceRpcProxy(service, {"AMQP_URI": memory_uri})


def test_content_type_of_a_request_that_is_not_encoded(start: Start, broker_config: dict[str, Any]) -> None:
    class Odd:
        name = "odd"
        shop = RpcProxy("shop", content_type="foo/bar")

        @rpc
        def method(self) -> None:
            self.shop.price("cup")

    with entrypoint_hook(start(Odd), "method") as call, pytest.raises(EncodeError, match="content_type `foo/bar`"):
        call()
    with (
        ServiceRpcProxy("shop", broker_config, content_type="foo/bar") as shop,
        pytest.raises(EncodeError, match="content_type `foo/bar`"),
    ):
        shop.price("cup")


def test_request_that_nobody_takes_expires_with_its_caller(
    start: Start, customer: ServiceContainer, act: Callable[..., Any], eventually: Eventually
) -> None:
    class Absent:
        name = "absent"
        handled: list[int] = []  # noqa: RUF012

        @rpc
        def method(self, number: int) -> None:
            self.handled.append(number)

    start(Absent).stop()  # its queue stays
    with pytest.raises(RpcTimeout):
        act(lambda service: service.cluster.absent.method.with_options(timeout=0.2)(1))
    reply = act(lambda service: service.cluster.absent.method.call_async(2))
    start(Absent)
    reply.result()
    assert Absent.handled == [2]


# -- context


class Chain:
    name = "chain"

    chain = RpcProxy("chain", headers={"nameko.colour": "red", "foreign": "1"})

    class Context(DependencyProvider):
        def get_dependency(self, worker_ctx: Any) -> Any:
            return worker_ctx

    context = Context()

    @rpc
    def links(self, number: int) -> Any:
        if number:
            return self.chain.links(number - 1)
        return dict(self.context.data), self.context.call_id_stack

    @rpc
    def change(self) -> Any:
        self.context.data["changed"] = "yes"
        return self.chain.links(0)


def test_context_data_and_call_ids_travel_with_the_call(start: Start, broker_config: dict[str, Any]) -> None:
    from nameko.standalone.rpc import ServiceRpcProxy

    start(Chain, parent_calls_tracked=2)
    with ServiceRpcProxy("chain", broker_config, context_data={"user_id": 7}) as chain:
        data, stack = chain.links(0)
        assert data == {"user_id": 7}
        assert [call_id.rpartition(".")[0] for call_id in stack] == ["standalone_rpc_proxy.call", "chain.links"]
        data, stack = chain.links(3)
        assert data == {"user_id": 7, "colour": "red", "foreign": "1"}
        assert [call_id.rpartition(".")[0] for call_id in stack] == ["chain.links"] * 3
        # Headers are those of the moment of the call.
        assert chain.change()[0]["changed"] == "yes"


# -- clients


def test_names_as_attributes_and_as_items(act: Callable[..., Any]) -> None:
    assert act(lambda service: service.cluster.shop.price("cup")) == 3
    assert act(lambda service: service.cluster["shop"]["price"]("cup")) == 3
    assert act(lambda service: service.shop["price"]("cup")) == 3


def test_what_is_no_method_cannot_be_called(act: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"`\*\.\*` names no method"):
        act(lambda service: service.cluster())
    with pytest.raises(ValueError, match=r"`shop\.\*` names no method"):
        act(lambda service: service.shop.call_async())
    with pytest.raises(AttributeError, match=r"`shop\.price` is a method and has no `cup`"):
        act(lambda service: service.shop.price.cup)


def test_identifier(act: Callable[..., Any]) -> None:
    def describe(service: Any) -> Any:
        clients = (service.cluster, service.shop, service.shop.price)
        return [(client.identifier, client.fully_specified, repr(client)) for client in clients]

    assert act(describe) == [
        ("*.*", False, "<Client [*.*]>"),
        ("shop.*", False, "<Client [shop.*]>"),
        ("shop.price", True, "<Client [shop.price]>"),
    ]


class NoCaller:
    """Fails when it is asked to call anything."""


def test_python_itself_never_calls_out() -> None:
    client = Client(NoCaller(), None, "shop")  # type: ignore[arg-type]
    assert not hasattr(client, "__html__")
    with pytest.raises(AttributeError):
        client.__len__  # noqa: B018
    assert copy.copy(client.price).identifier == "shop.price"
    assert copy.deepcopy(client.price).identifier == "shop.price"
    assert pickle.loads(pickle.dumps(client.price)).identifier == "shop.price"


def test_clients_as_extensions_of_nameko_2_make_them(start: Start) -> None:
    class OwnProxy(RpcProxy):
        def get_dependency(self, worker_ctx: Any) -> Any:
            return (
                ServiceProxy(worker_ctx, self.target_service, self.rpc_reply_listener, **self.options),
                MethodProxy(worker_ctx, "shop", "price", self.rpc_reply_listener),
            )

    class Extended:
        name = "extended"
        proxies = OwnProxy("shop", retry=False, use_confirms=False, mandatory=False, exchange="x", routing_key="y")

        @dummy
        def method(self) -> Any:
            service_proxy, method_proxy = self.proxies
            return service_proxy.price("cup"), method_proxy("tea"), method_proxy.call_async("jug").result()

    start(Shop)
    with entrypoint_hook(start(Extended), "method") as method:
        assert method() == (3, 3, 3)


# -- overriding


def test_reply_can_be_changed(start: Start, cluster: Any, eventually: Eventually) -> None:
    class Polite(Rpc):
        def handle_result(self, message: Any, worker_ctx: Any, result: Any, exc_info: Any) -> Any:
            return super().handle_result(message, worker_ctx, f"{result}, if you please", None)

    class Service:
        name = "service"
        outcomes = Outcomes()

        @Polite.decorator
        def method(self, fail: bool = False) -> str:
            if fail:
                raise ValueError
            return "yes"

    container = start(Service)
    assert cluster.service.method() == "yes, if you please"
    assert cluster.service.method(fail=True) == "None, if you please"
    (outcomes,) = container.dependencies
    eventually(lambda: [result for result, _ in outcomes.seen] == ["yes, if you please", "None, if you please"])


def test_request_can_be_refused(start: Start, cluster: Any) -> None:
    class Guarded(Rpc):
        def handle_message(self, body: Any, message: Any) -> None:
            if "password" not in body["kwargs"]:
                raise MalformedRequest("say the word")
            super().handle_message(body, message)

    class Service:
        name = "service"

        @Guarded.decorator
        def method(self, password: str) -> str:
            return password

    start(Service)
    with pytest.raises(MalformedRequest, match="say the word"):
        cluster.service.method()
    assert cluster.service.method(password="x") == "x"


# -- the pool of workers


def test_replies_come_in_while_all_workers_wait_for_them(start: Start, cluster: Any) -> None:
    start(Shop)
    start(Customer, max_workers=2)
    calls = [cluster.customer.ask.call_async("teapot") for _ in range(20)]
    assert [call.result() for call in calls] == [6] * 20


def test_service_survives_calling_itself_beyond_its_pool(start: Start, cluster: Any, eventually: Any) -> None:
    def usable() -> bool:
        # Links of the chain that waited for a worker may have got one just before their callers gave up; they take up
        # workers until they have timed out themselves.
        try:
            return bool(cluster.chain.links(0) and cluster.chain.links(1))
        except RemoteError:
            return False

    start(Chain, max_workers=3, RPC_TIMEOUT=2)
    with pytest.raises(RemoteError, match="RpcTimeout"):
        cluster.chain.links(10)
    eventually(usable, timeout_s=30)


@pytest.mark.parametrize("options", [{}, {"retry": Retry()}], ids=["without retries", "with retries"])
def test_request_whose_caller_gave_up_while_it_waited_for_a_worker_is_not_run(
    start: Start, broker_config: dict[str, Any], cluster: Any, raw: Any, eventually: Eventually, options: dict[str, Any]
) -> None:
    ran: list[str] = []
    gate = concurrency.Event()

    class Busy:
        name = "busy"

        @rpc
        def hold(self) -> None:
            gate.wait()

        @rpc(**options)
        def note(self, who: str) -> None:
            ran.append(who)

    container = start(Busy, max_workers=1, PREFETCH_COUNT=10)
    broker = next(each.broker for each in container.subextensions if hasattr(each, "broker"))
    holding = cluster.busy.hold.call_async()
    eventually(lambda: container.running_workers == 1)
    patient = [cluster.busy.note.call_async("patient")]
    with ClusterRpcProxy(broker_config, timeout=1.5) as impatient:
        # None of them waits in the queue, where the broker would drop it.
        overdue = [impatient.busy.note.call_async("impatient") for _ in range(3)]
        eventually(lambda: depth(raw, "rpc-busy") == 0)
        for call in overdue:
            with pytest.raises(RpcTimeout):
                call.result()
    never_expires = {**broker_config, "RPC_EXPIRE_REQUESTS": False}
    with ClusterRpcProxy(never_expires, timeout=1.5) as another, pytest.raises(RpcTimeout):
        another.busy.note("for ever")  # sent after the others had arrived, so those are overdue for certain now
    patient.append(cluster.busy.note.call_async("patient"))
    gate.send(None)
    for call in (holding, *patient):
        call.result()
    assert ran == ["patient", "for ever", "patient"]
    assert broker.counters["messages_expired"] == 3
    container.stop()
    assert depth(raw, "rpc-busy") == 0  # they were acknowledged


def test_request_that_waits_for_a_worker_when_the_service_stops_is_given_back(
    start: Start, cluster: Any, raw: Any, eventually: Eventually
) -> None:
    ran: list[str] = []
    gates = [concurrency.Event(), concurrency.Event()]

    class Busy:
        name = "busy"

        @rpc
        def hold(self, number: int) -> None:
            gates[number].wait()

        @rpc
        def note(self) -> None:
            ran.append("noted")

    container = start(Busy, max_workers=2, PREFETCH_COUNT=3)
    holding = [cluster.busy.hold.call_async(number) for number in range(2)]
    waiting = cluster.busy.note.call_async()
    eventually(lambda: container.running_workers == 2 and depth(raw, "rpc-busy") == 0)
    stopping = concurrency.spawn(container.stop)
    eventually(lambda: "queue rpc-busy is not consumed" in container.not_ready_reasons())
    for gate in gates:
        gate.send(None)
        holding.pop(0).result()
    stopping.wait()
    assert not ran
    assert depth(raw, "rpc-busy") == 1
    start(Busy)
    waiting.result()
    assert ran == ["noted"]
