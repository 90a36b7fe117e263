"""The `Broker` of a container, and what the plugin says about it all."""

from __future__ import annotations

import subprocess
import sys
import uuid

import kombu
import pytest

from harness.management import Management
from nameko import concurrency
from nameko.amqp import Broker, BrokerRefused, _plugin
from nameko.amqp.registry import registry
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Extension

QUEUE = kombu.Queue("things", kombu.Exchange("things", type="topic"), routing_key="thing.#")


class First(DependencyProvider):
    broker = Broker()


class Second(DependencyProvider):
    other_name = Broker()


class Service:
    name = "service"
    first = First()
    second = Second()


@pytest.fixture
def container(memory_uri):
    made = ServiceContainer(Service, {"AMQP_URI": memory_uri})
    yield made
    made.kill()


def test_a_container_has_one(container):
    first, second = sorted(container.dependencies, key=lambda provider: provider.attr_name)
    assert first.broker is second.other_name


def test_nothing_is_connected_before_setup(container, memory_uri):
    assert not [key for key in registry._leased if key[3].uri == memory_uri]
    container.start()
    assert len([key for key in registry._leased if key[3].uri == memory_uri]) == 2
    container.stop()
    assert not [key for key in registry._leased if key[3].uri == memory_uri]


def test_it_can_be_used_in_any_order_of_setup(broker_uri, eventually):
    """Extensions are set up concurrently: one may subscribe before the broker's own setup has run."""
    got = []

    class Early(Extension):
        broker = Broker()

        def setup(self):
            self.broker.subscribe(QUEUE, lambda message: (got.append(message.payload), message.ack()))
            self.broker.declare(kombu.Exchange("more"))
            self.broker.publish("at setup", exchange="things", routing_key="thing.a", mandatory=True)

    class Holder(DependencyProvider):
        early = Early()

    class EarlyService:
        name = "early"
        holder = Holder()

    container = ServiceContainer(EarlyService, {"AMQP_URI": broker_uri})
    container.start()
    eventually(lambda: got == ["at setup"])
    container.stop()


def test_stop_is_repeatable_and_kill_after_stop_harmless(make_broker, broker_uri):
    broker = make_broker(broker_uri)
    for _ in range(2):
        broker.stop()
    broker.kill()
    with pytest.raises(RuntimeError, match="service has stopped"):
        broker.subscribe(QUEUE, lambda message: None)
    with pytest.raises(RuntimeError, match="service has stopped"):
        broker.declare(QUEUE)


def test_readiness_through_the_plugin(make_broker, broker_uri):
    broker = make_broker(broker_uri)
    subscription = broker.subscribe(QUEUE, lambda message: None)
    assert _plugin.nameko_ready(broker.container) == []
    subscription.stop()
    assert _plugin.nameko_ready(broker.container) == ["queue things is not consumed"]


def test_a_container_without_a_broker_is_not_asked(memory_uri):
    class Plain:
        name = "plain"

    assert _plugin.nameko_ready(ServiceContainer(Plain, {"AMQP_URI": memory_uri})) == []


def test_configuration_keys_are_those_that_are_read():
    from nameko.amqp import settings

    declared = {key.name: key for key in _plugin.nameko_config_keys()}
    read = {value for name, value in vars(settings).items() if name.endswith("_CONFIG_KEY")}
    assert read <= set(declared)
    made = settings.AmqpSettings(uri="memory://x")
    assert declared["HEARTBEAT"].default == made.heartbeat_s
    assert declared["START_TIMEOUT"].default == made.start_timeout_s
    assert declared["PUBLISH_TIMEOUT"].default == made.publish_timeout_s
    assert declared["MAX_MESSAGE_BYTES"].default == made.max_message_bytes
    assert declared["AMQP_URI"].default == settings.IN_PROCESS_URI
    assert all(key.help.endswith(".") for key in declared.values())


def test_extensions_and_options():
    assert Broker in [info.cls for info in _plugin.nameko_extensions()]
    (option,) = _plugin.nameko_run_options()
    assert (option.flag, option.config_key) == ("--broker", "AMQP_URI")


def test_the_plugin_module_imports_neither_kombu_nor_eventlet():
    program = "import sys, nameko.amqp._plugin; print([m for m in ('kombu', 'amqp', 'eventlet') if m in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert finished.stdout.strip() == "[]"


def test_brokers_of_two_threads_do_not_mix(rabbitmq_uri):
    """A native thread has a hub of its own, and so connections of its own."""
    program = f"""
import threading
import kombu
from nameko import concurrency
from nameko.amqp import Broker
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider

class Holder(DependencyProvider):
    broker = Broker()

class Service:
    name = "threaded"
    holder = Holder()

results = []

def run(name):
    container = ServiceContainer(Service, {{"AMQP_URI": {rabbitmq_uri!r}}})
    container.start()
    broker = next(iter(container.dependencies)).broker
    got = []
    queue = kombu.Queue(name, kombu.Exchange("e"), name)
    broker.subscribe(queue, lambda message: (got.append(message.payload), message.ack()))
    for number in range(50):
        broker.publish(number, exchange="e", routing_key=name, mandatory=True)
    while len(got) < 50:
        concurrency.sleep(0.01)
    container.stop()
    results.append(got == list(range(50)))

threads = [threading.Thread(target=run, args=(f"thread-{{n}}",)) for n in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(30)
print(results)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert finished.stdout.strip() == "[True, True, True]", finished.stderr


def test_a_broken_subscription_does_not_outlive_its_container(make_broker, broker_uri):
    broker = make_broker(broker_uri)
    blocked = concurrency.Event()
    broker.subscribe(QUEUE, lambda message: blocked.wait())
    broker.publish(1, exchange="things", routing_key="thing.a")
    concurrency.sleep(0.05)
    broker.container.kill()
    assert broker.container._managed_threads == {}


@pytest.fixture
def limited_uri(rabbitmq_uri):
    """A user who may neither declare nor use anything whose name begins with `forbidden`."""
    management, user = Management(), f"limited-{uuid.uuid4().hex[:8]}"
    management.add_user(user, "pw")
    management.allow(rabbitmq_uri.rpartition("/")[2], user, "^(?!forbidden).*")
    yield rabbitmq_uri.replace("guest:guest", f"{user}:pw")
    management.delete_user(user)


def test_what_this_user_may_not_declare_or_consume_refuses_the_start(make_broker, limited_uri):
    broker = make_broker(limited_uri)
    exchange = kombu.Exchange("forbidden-exchange")
    with pytest.raises(BrokerRefused, match="exchange `forbidden-exchange` is not for this user: ACCESS_REFUSED"):
        broker.declare(exchange)
    with pytest.raises(
        BrokerRefused, match=r"queue `forbidden-queue` is not for this user: ACCESS_REFUSED.*; see `rabbit"
    ):
        broker.subscribe(kombu.Queue("forbidden-queue"), lambda message: None)
    broker.declare(QUEUE)


def test_a_queue_that_another_connection_holds_is_waited_for(make_broker, broker_uri, eventually, monkeypatch):
    """An exclusive queue is locked until the broker notices that its last owner has gone."""
    queue = kombu.Queue("mine", kombu.Exchange("things", type="topic"), routing_key="mine", exclusive=True)
    first, second = make_broker(broker_uri, HEARTBEAT=20), make_broker(broker_uri, HEARTBEAT=30)
    first.subscribe(queue, lambda message: None)
    raw, opened = second._consuming().connection.raw, []
    monkeypatch.setattr(raw, "channel", lambda channel=raw.channel: opened.append(True) or channel())
    subscribing = concurrency.spawn(second.subscribe, queue, lambda message: None)
    eventually(lambda: len(opened) > 1)  # a channel for each attempt
    assert not subscribing.dead
    first.container.kill()
    assert subscribing.wait().consuming
