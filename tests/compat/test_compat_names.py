"""What extensions for nameko 2.14 reach into, at work, over both brokers."""

from __future__ import annotations

import functools
import io
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kombu import Exchange, Queue

from nameko import config
from nameko.amqp.publish import Publisher as AmqpPublisher
from nameko.cli.utils import import_services, setup_config
from nameko.constants import HEADER_PREFIX
from nameko.containers import ServiceContainer
from nameko.events import EventDispatcher, event_handler
from nameko.exceptions import ConfigurationError, RpcTimeout, UnknownService
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.messaging import Consumer, Publisher, QueueConsumer, QueueConsumerStopped
from nameko.rpc import (
    ClusterRpc,
    MethodProxy,
    ReplyListener,
    Rpc,
    RpcConsumer,
    RpcProxy,
    RpcReply,
    ServiceProxy,
    get_rpc_exchange,
    rpc,
)
from nameko.runners import run_services
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ServiceRpcClient, ServiceRpcProxy
from nameko.testing.services import entrypoint_hook, entrypoint_waiter

Start = Callable[[type], ServiceContainer]
Eventually = Callable[..., Any]

JOBS = Exchange("jobs", type="topic", durable=True)
JOB_QUEUE = Queue("jobs-to-do", exchange=JOBS, routing_key="job")


class Jobs:
    name = "jobs"

    publish = Publisher(JOBS, declare=[JOB_QUEUE])
    dispatch = EventDispatcher()

    @rpc
    def send(self, job: Any) -> None:
        self.publish(job, routing_key="job")


class Greeter:
    name = "greeter"

    @rpc
    def hello(self, name: str) -> str:
        return f"Hello, {name}!"

    @rpc
    def call_async(self, value: int) -> int:
        return value + 1


# -- QueueConsumer


class Job(Entrypoint):
    """An entrypoint as one writes it for nameko 2.14."""

    queue_consumer = QueueConsumer()
    queue = JOB_QUEUE

    def setup(self) -> None:
        self.queue_consumer.register_provider(self)

    def stop(self) -> None:
        self.queue_consumer.unregister_provider(self)

    def handle_message(self, body: Any, message: Any) -> None:
        def settle(worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
            if exc_info is None:
                self.queue_consumer.ack_message(message)
            else:
                self.queue_consumer.requeue_message(message)
            return result, exc_info

        self.container.spawn_worker(self, (body,), {}, handle_result=settle)


job = Job.decorator


def test_what_registers_with_a_queue_consumer_gets_the_messages(start: Start, eventually: Eventually) -> None:
    done: list[Any] = []
    attempts: list[Any] = []

    class Worker:
        name = "worker"

        @job
        def work(self, body: Any) -> None:
            attempts.append(body)
            if len(attempts) == 1:
                raise ValueError("not at the first try")
            done.append(body)

    worker = start(Worker)
    with entrypoint_hook(start(Jobs), "send") as send:
        send({"id": 1})
        eventually(lambda: done)

    assert attempts == [{"id": 1}, {"id": 1}]
    worker.stop()
    again = start(Worker)
    with entrypoint_waiter(again, "work"), entrypoint_hook(start(Jobs), "send") as send:
        send({"id": 2})
    assert done == [{"id": 1}, {"id": 2}]  # the first one is acknowledged


def test_a_queue_consumer_that_has_stopped_takes_no_more_providers(start: Start) -> None:
    class Worker:
        name = "worker"

        @job
        def work(self, body: Any) -> None: ...

    worker = start(Worker)
    (entrypoint,) = worker.entrypoints
    worker.stop()

    with pytest.raises(QueueConsumerStopped):
        entrypoint.queue_consumer.register_provider(entrypoint)


def test_a_queue_consumer_knows_its_broker(start: Start, broker_config: dict[str, Any]) -> None:
    class Worker:
        name = "worker"

        @job
        def work(self, body: Any) -> None: ...

    (entrypoint,) = start(Worker).entrypoints
    queue_consumer = entrypoint.queue_consumer

    assert queue_consumer.amqp_uri == broker_config["AMQP_URI"]
    assert queue_consumer.prefetch_count == 10
    assert queue_consumer.accept == ["json"]
    with queue_consumer.connection as connection:
        assert connection.connect()


class OneAtATime(QueueConsumer):
    prefetch_count = 1


class PatientConsumer(Consumer):
    queue_consumer = OneAtATime()


def test_a_prefetch_count_of_a_queue_consumer_counts_for_its_consumer(start: Start, eventually: Eventually) -> None:
    begun: list[Any] = []

    class Worker:
        name = "worker"

        @PatientConsumer.decorator(JOB_QUEUE)
        def work(self, body: Any) -> None:
            begun.append(body)
            gate.wait()

    from nameko.concurrency import Event

    gate = Event()
    with entrypoint_hook(start(Jobs), "send") as send:
        start(Worker)
        other = start(Worker)
        send(1)
        send(2)
        send(3)
        eventually(lambda: sorted(begun) == [1, 2])  # one each, the third is with the broker
        assert len(other._worker_threads) == 1
        gate.send(None)
        eventually(lambda: sorted(begun) == [1, 2, 3])


def test_a_consumer_that_registers_with_its_queue_consumer_is_served_once(start: Start, eventually: Eventually) -> None:
    received: list[Any] = []

    class Registering(Consumer):
        def setup(self) -> None:
            self.queue_consumer.register_provider(self)  # type: ignore[arg-type]

    class Worker:
        name = "worker"

        @Registering.decorator(JOB_QUEUE)
        def work(self, body: Any) -> None:
            received.append(body)

    worker = start(Worker)
    with entrypoint_hook(start(Jobs), "send") as send:
        for number in range(10):
            send(number)
        eventually(lambda: len(received) >= 10)
    worker.stop()  # which waits for no provider

    assert sorted(received) == list(range(10))


# -- hooks of consumers


def test_handlers_can_be_wrapped(start: Start, eventually: Eventually) -> None:
    seen: list[str] = []

    class Watching(Consumer):
        def handle_message(self, body: Any, message: Any) -> None:
            seen.append("message")
            super().handle_message({"wrapped": body}, message)

        def handle_result(
            self, message: Any, worker_ctx: Any, result: Any = None, exc_info: Any = None
        ) -> tuple[Any, Any]:
            seen.append(f"result {result}")
            return super().handle_result(message, worker_ctx, result, exc_info)

        def handle_message_processed(self, message: Any, result: Any = None, exc_info: Any = None) -> None:
            super().handle_message_processed(message, result, exc_info)
            seen.append(f"processed, acknowledged: {message.acknowledged}")

    class Worker:
        name = "worker"

        @Watching.decorator(JOB_QUEUE)
        def work(self, body: Any) -> Any:
            return body["wrapped"]

    start(Worker)
    with entrypoint_hook(start(Jobs), "send") as send:
        send(7)
    eventually(lambda: len(seen) == 3)

    assert seen == ["message", "result 7", "processed, acknowledged: True"]


def test_an_rpc_entrypoint_can_change_its_reply(start: Start, broker_config: dict[str, Any]) -> None:
    class Shouting(Rpc):
        def handle_result(self, message: Any, worker_ctx: Any, result: Any, exc_info: Any) -> tuple[Any, Any]:
            return super().handle_result(message, worker_ctx, result.upper(), exc_info)

    class Shouter:
        name = "shouter"

        @Shouting.decorator
        def hello(self) -> str:
            return "hello"

    start(Shouter)
    with ServiceRpcProxy("shouter", broker_config) as shouter:
        assert shouter.hello() == "HELLO"


# -- publishers


class Stamping(AmqpPublisher):
    """Puts a stamp on whatever it publishes."""

    def publish(self, payload: Any, **kwargs: Any) -> None:
        super().publish({"stamped": payload}, **kwargs)


def test_a_publisher_class_of_ones_own_publishes(start: Start) -> None:
    class StampingPublisher(Publisher):
        publisher_cls = Stamping

    received: list[tuple[Any, Any]] = []

    class Sender:
        name = "sender"

        publish = StampingPublisher(JOBS, declare=[JOB_QUEUE])

        @rpc
        def send(self, value: Any) -> None:
            self.publish(value, routing_key="job")

    class Headed(Consumer):
        def handle_message(self, body: Any, message: Any) -> None:
            received.append((body, message.headers.get(f"{HEADER_PREFIX}.language")))
            super().handle_message(body, message)

    class Worker:
        name = "worker"

        @Headed.decorator(JOB_QUEUE)
        def work(self, body: Any) -> None: ...

    sender, worker = start(Sender), start(Worker)
    with entrypoint_waiter(worker, "work"), entrypoint_hook(sender, "send", {"language": "en"}) as send:
        send(1)

    assert received == [({"stamped": 1}, "en")]


def test_a_serializer_of_a_publisher_counts(start: Start, broker_config: dict[str, Any]) -> None:
    content_types: list[str] = []

    class InYaml(Publisher):
        serializer = "yaml"

    class Sender:
        name = "sender"

        publish = InYaml(JOBS, declare=[JOB_QUEUE])

        @rpc
        def send(self, value: Any) -> None:
            self.publish(value, routing_key="job")

    class Typed(Consumer):
        def handle_message(self, body: Any, message: Any) -> None:
            content_types.append(message.content_type)
            super().handle_message(body, message)

    class Worker:
        name = "worker"

        @Typed.decorator(JOB_QUEUE)
        def work(self, body: Any) -> None: ...

    broker_config["ACCEPT"] = ["json", "yaml"]
    sender, worker = start(Sender), start(Worker)
    with entrypoint_waiter(worker, "work"), entrypoint_hook(sender, "send") as send:
        send(1)

    assert content_types == ["application/x-yaml"]


# -- proxies that an extension makes


class Calls(DependencyProvider):
    """Makes calls with what nameko 2.14 has for it."""

    replies = ReplyListener()
    method_proxy_cls: type[MethodProxy] = MethodProxy

    def get_dependency(self, worker_ctx: Any) -> Any:
        def call(service: str, method: str, *args: Any) -> Any:
            return self.method_proxy_cls(worker_ctx, service, method, self.replies)(*args)

        call.service = lambda service: ServiceProxy(worker_ctx, service, self.replies)  # type: ignore[attr-defined]
        return call


class Caller:
    name = "caller"

    call = Calls()
    greeter = RpcProxy("greeter")
    cluster = ClusterRpc()

    @rpc
    def through_method_proxy(self, service: str) -> Any:
        return self.call(service, "hello", "Matt")

    @rpc
    def through_service_proxy(self) -> Any:
        reply = self.call.service("greeter").hello.call_async("Matt")
        return [reply.result(), reply.result()]

    @rpc
    def of_that_name(self) -> Any:
        return [self.greeter["call_async"](1), self.cluster.greeter["call_async"].call_async(2).result()]


def test_an_extension_can_make_proxies(start: Start) -> None:
    start(Greeter)
    caller = start(Caller)

    with entrypoint_hook(caller, "through_method_proxy") as call:
        assert call("greeter") == "Hello, Matt!"
        with pytest.raises(UnknownService):
            call("nobody")
    with entrypoint_hook(caller, "through_service_proxy") as call:
        assert call() == ["Hello, Matt!"] * 2


def test_a_method_called_like_one_of_the_clients_is_called_through_an_item(
    start: Start, broker_config: dict[str, Any]
) -> None:
    start(Greeter)

    with entrypoint_hook(start(Caller), "of_that_name") as call:
        assert call() == [2, 3]
    with ServiceRpcProxy("greeter", broker_config) as greeter:
        assert greeter["call_async"](3) == 4


def test_a_method_proxy_with_a_publisher_of_its_own_uses_it(start: Start) -> None:
    published: list[str] = []

    class Noting(AmqpPublisher):
        def publish(self, payload: Any, **kwargs: Any) -> None:
            published.append(kwargs["routing_key"])
            super().publish(payload, **kwargs)

    class NotingProxy(MethodProxy):
        publisher_cls = Noting

    class NotingCalls(Calls):
        method_proxy_cls = NotingProxy

    class NotingCaller(Caller):
        call = NotingCalls()

    start(Greeter)
    with entrypoint_hook(start(NotingCaller), "through_method_proxy") as call:
        assert call("greeter") == "Hello, Matt!"
        with pytest.raises(UnknownService):
            call("nobody")

    assert published == ["greeter.hello", "nobody.hello"]


def test_a_method_proxy_knows_its_container(start: Start, broker_config: dict[str, Any]) -> None:
    container = start(Caller)
    (replies,) = [each for each in container.extensions if isinstance(each, ReplyListener)]
    proxy = MethodProxy(None, "greeter", "hello", replies)  # type: ignore[arg-type]

    assert proxy.container.service_name == "caller"
    assert (proxy.amqp_uri, proxy.serializer) == (broker_config["AMQP_URI"], "json")
    assert (proxy.ssl, proxy.login_method) == (None, None)


def test_a_reply_can_be_waited_for_by_whoever_sends_the_request(start: Start, broker_config: dict[str, Any]) -> None:
    start(Greeter)
    container = start(Caller)
    (replies,) = [each for each in container.extensions if isinstance(each, ReplyListener)]
    correlation_id = str(uuid.uuid4())

    event = replies.get_reply_event(correlation_id)
    assert not event.ready()
    AmqpPublisher(broker_config["AMQP_URI"]).publish(
        {"args": ["Matt"], "kwargs": {}},
        exchange=get_rpc_exchange(broker_config),
        routing_key="greeter.hello",
        reply_to=replies.routing_key,
        correlation_id=correlation_id,
    )

    assert event.wait() == {"result": "Hello, Matt!", "error": None}
    assert RpcReply(event).result() == "Hello, Matt!"
    assert event.ready()
    assert len(replies.pending) == 0


def test_a_reply_that_does_not_come_is_given_up(start: Start) -> None:
    (replies,) = [each for each in start(Caller).extensions if isinstance(each, ReplyListener)]

    with pytest.raises(RpcTimeout):
        replies.get_reply_event("never", timeout_s=0.01).wait()

    assert len(replies.pending) == 0


# -- as in the 3.0 line


class Relay:
    name = "relay"

    greeter = RpcProxy("inspector")
    dispatch = EventDispatcher()

    class Context(DependencyProvider):
        def get_dependency(self, worker_ctx: Any) -> Any:
            return worker_ctx.context_data

    context_data = Context()

    @rpc
    def relay(self) -> Any:
        self.context_data["user_id"] = 5
        return self.greeter.user_id()


class Inspector:
    name = "inspector"

    context_data = Relay.Context()

    @rpc
    def user_id(self) -> Any:
        return self.context_data.get("user_id")

    @event_handler("relay", "moved")
    def note(self, event: Any) -> Any:
        return event


def test_context_data_that_a_worker_changes_travels_with_its_calls(start: Start) -> None:
    start(Inspector)

    with entrypoint_hook(start(Relay), "relay") as relay:
        assert relay() == 5


def test_configuration_need_not_be_passed(broker_config: dict[str, Any]) -> None:
    with config.patch(broker_config), run_services(Greeter, Inspector) as runner:
        inspector = runner.service_map["inspector"]
        assert isinstance(inspector, ServiceContainer)
        assert inspector.config["AMQP_URI"] == config["AMQP_URI"]
        with ServiceRpcClient("greeter", timeout=5) as greeter:
            assert greeter.hello("Matt") == "Hello, Matt!"
        with entrypoint_waiter(inspector, "note") as result, warnings.catch_warnings():
            warnings.simplefilter("error")
            event_dispatcher(priority=1)("relay", "moved", {"to": 1})
        assert result.get() == {"to": 1}


# -- what published extensions reach into


def test_a_property_can_ask_whether_its_extension_is_bound(start: Start) -> None:
    class Named(Rpc):
        @property
        def path(self) -> str | None:
            assert self.method_name is not None or not self.is_bound()  # binding looks at every property
            return self.method_name

    class Service:
        name = "service"

        @Named.decorator
        def method(self) -> None: ...

    (entrypoint,) = start(Service).entrypoints
    assert isinstance(entrypoint, Named)
    assert entrypoint.path == "method"


def test_a_decorator_can_inject_arguments(start: Start, broker_config: dict[str, Any]) -> None:
    def injecting(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return method(*args, **kwargs, session="session")

        return wrapper

    class Service:
        name = "service"

        @rpc
        @injecting
        def method(self, value: int, session: str) -> list[Any]:
            return [value, session]

    start(Service)
    with ServiceRpcProxy("service", broker_config, timeout=20) as service:
        assert service.method(1) == [1, "session"]


def test_an_rpc_consumer_can_find_methods_its_own_way(start: Start, broker_config: dict[str, Any]) -> None:
    class AliasConsumer(RpcConsumer):
        def handle_message(self, body: Any, message: Any) -> None:
            name = message.headers["method"]
            self.get_provider_for_method(f"service.{name}").handle_message(body, message)

    class AliasRpc(Rpc):
        rpc_consumer = AliasConsumer()

        def handle_result(self, message: Any, worker_ctx: Any, result: Any, exc_info: Any) -> Any:
            assert "expiration" not in message.properties  # who publishes a request again has one of its own
            if result == "not for the caller":
                self.rpc_consumer.queue_consumer.ack_message(message)
                return result, exc_info
            return super().handle_result(message, worker_ctx, result, exc_info)

    class Service:
        name = "service"

        @AliasRpc.decorator
        def method(self, value: str) -> str:
            return value

    start(Service)
    with ServiceRpcProxy("service", broker_config, timeout=0.5, headers={"method": "method"}) as service:
        assert service.anything("x") == "x"
        with pytest.raises(RpcTimeout):
            service.anything("not for the caller")
        assert service.anything("y") == "y"  # the one before is settled


def test_a_service_proxy_can_make_method_proxies_of_its_own(start: Start) -> None:
    class CountingMethod(MethodProxy):
        def __init__(self, *args: Any, calls: list[str], **kwargs: Any) -> None:
            self.calls = calls
            super().__init__(*args, **kwargs)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            self.calls.append(str(self.method_name))
            return super().__call__(*args, **kwargs)

    class CountingService(ServiceProxy):
        def __getattr__(self, name: str) -> Any:
            return CountingMethod(self.worker_ctx, str(self.service_name), name, self.reply_listener, **self.options)

    calls: list[str] = []

    class Counting(RpcProxy):
        def get_dependency(self, worker_ctx: Any) -> Any:
            return CountingService(worker_ctx, self.target_service, self.rpc_reply_listener, calls=calls)

    class Service:
        name = "service"

        greeter = Counting("greeter")

        @rpc
        def call(self) -> Any:
            return self.greeter.hello("Matt")

    start(Greeter)
    with entrypoint_hook(start(Service), "call") as call:
        assert call() == "Hello, Matt!"
    assert calls == ["hello"]


def test_a_pool_of_standalone_proxies_can_keep_one_connected(start: Start, broker_config: dict[str, Any]) -> None:
    start(Inspector)
    with ServiceRpcProxy("inspector", broker_config, {"user_id": 1}, timeout=20) as inspector:
        inspector._worker_ctx.data["user_id"] = 2
        assert inspector.user_id() == 2

        connection = inspector._reply_listener.queue_consumer.connection
        with pytest.raises(TimeoutError):
            connection.drain_events(timeout=0.01)
        connection.heartbeat_check()
        assert inspector._reply_listener.queue_consumer.replies == {}
        assert inspector.user_id() == 2


@pytest.mark.parametrize("expire", [True, False])
def test_requests_expire_unless_configured_otherwise(start: Start, broker_config: dict[str, Any], expire: bool) -> None:
    expirations: list[bool] = []

    class Looking(Rpc):
        def handle_message(self, body: Any, message: Any) -> None:
            expirations.append("expiration" in message.properties)
            super().handle_message(body, message)

    class Service:
        name = "service"

        @Looking.decorator
        def method(self) -> None: ...

    start(Service)
    with ServiceRpcProxy("service", {**broker_config, "RPC_EXPIRE_REQUESTS": expire}, timeout=20) as service:
        service.method()
    assert expirations == [expire]


@pytest.mark.parametrize("opened", [False, True])
def test_a_command_of_others_can_set_up_the_configuration(tmp_path: Path, opened: bool) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("max_workers: ${WORKERS:3}\nLOGGING: {version: 1, incremental: true}\n")
    with config.patch({}, clear=True), path.open("rb") as file:
        setup_config(file if opened else path, define=[("rpc_exchange", "x")], broker="memory://localhost/compat")
        assert dict(config) == {
            "AMQP_URI": "memory://localhost/compat",
            "max_workers": 3,
            "rpc_exchange": "x",
            "LOGGING": {"version": 1, "incremental": True},
        }


def test_a_configuration_that_is_no_mapping_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"must be a mapping, not \['a'\]"):
        setup_config(io.BytesIO(b"- a"))


def test_a_command_of_others_can_import_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    assert [cls.__name__ for cls in import_services("examples.quickstart")] == ["Greeter", "Reception"]
