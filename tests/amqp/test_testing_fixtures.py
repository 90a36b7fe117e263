"""The pytest plugin of nameko-amqp, used the way that other projects do: by a test run of their own."""

from __future__ import annotations

import os
from typing import Any

import kombu
import pytest

from harness.management import MANAGEMENT_URL, RABBITMQ_HOST
from nameko.testing.rabbit import Client

pytest_plugins = ["pytester"]

RABBITMQ = f"{RABBITMQ_HOST}:{os.environ.get('NAMEKO_TEST_RABBITMQ_PORT', '5672')}"
AMQP_URI = f"pyamqp://guest:guest@{RABBITMQ}"


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    """`run(source, *options)`: runs a test module on its own; the result."""

    def run_tests(source: str, *options: str) -> Any:
        pytester.makeini("[pytest]\naddopts = -W error -p no:cacheprovider")
        pytester.makepyfile(source)
        return pytester.runpytest_subprocess(*options, timeout=50)

    return run_tests


@pytest.fixture
def run_on_rabbitmq(run: Any, rabbitmq_uri: str) -> Any:
    """Likewise, with RabbitMQ."""

    def run_tests(source: str, *options: str) -> Any:
        return run(source, "--amqp-uri", AMQP_URI, "--rabbit-api-uri", MANAGEMENT_URL, *options)

    return run_tests


def test_installed_plugin_does_nothing_to_tests_of_others(run: Any) -> None:
    result = run("""
        import sys

        def test_nothing_is_imported():
            assert "nameko.testing.pytest_amqp" in sys.modules
            assert not {"eventlet", "kombu", "amqp", "nameko.config", "nameko.testing.rabbit"} & set(sys.modules)
    """)
    result.assert_outcomes(passed=1)


def test_in_process_broker_needs_nothing(run: Any) -> None:
    result = run("""
        from nameko import config
        from nameko.messaging import Publisher, consume
        from nameko.testing.services import dummy, entrypoint_hook, entrypoint_waiter
        from kombu import Exchange, Queue
        from nameko.amqp import get_producer
        import pytest

        orders = Queue("orders", Exchange("orders"), routing_key="order")

        class Service:
            name = "service"
            publish = Publisher(orders.exchange)

            @dummy
            def order(self, number):
                self.publish(number, routing_key="order")

            @consume(orders)
            def take(self, number):
                return number

        seen = []

        def run_service(container_factory, memory_config):
            assert config["AMQP_URI"] == memory_config["AMQP_URI"]
            seen.append(memory_config["AMQP_URI"])
            container = container_factory(Service, memory_config)
            container.start()
            with entrypoint_waiter(container, "take") as result:
                with entrypoint_hook(container, "order") as order:
                    order(42)
            assert result.get() == 42

        def test_one(container_factory, memory_config):
            run_service(container_factory, memory_config)

        def test_two(container_factory, memory_config):
            run_service(container_factory, memory_config)
            assert len(set(seen)) == 2     # each test has a broker of its own

        def test_configuration_is_as_it_was():
            assert "AMQP_URI" not in config

        @pytest.fixture
        def amqp_uri(memory_config):
            return memory_config["AMQP_URI"]

        def test_messages_can_be_taken_there_too(container_factory, memory_config, get_message_from_queue):
            container = container_factory(Service, memory_config)
            container.start()
            container.stop()
            with get_producer(memory_config["AMQP_URI"]) as producer:
                producer.publish(1, exchange="orders", routing_key="order")
            assert get_message_from_queue("orders").payload == 1
    """)
    result.assert_outcomes(passed=4)


@pytest.mark.rabbitmq
def test_rabbitmq(run_on_rabbitmq: Any) -> None:
    result = run_on_rabbitmq(
        """
        import queue
        import re
        import time
        from urllib.parse import urlsplit

        import kombu
        import pytest

        seen = []

        @pytest.mark.parametrize("number", range(5))
        def test_each_test_has_a_virtual_host_of_its_own(number, rabbit_config, rabbit_manager, amqp_uri):
            from nameko import config
            assert re.fullmatch("nameko_test_[a-z]{10}", rabbit_config["vhost"])
            assert rabbit_config["username"] == "guest"
            assert rabbit_config["AMQP_URI"].endswith(rabbit_config["vhost"])
            assert config["AMQP_URI"] == rabbit_config["AMQP_URI"] == amqp_uri
            with kombu.Connection(amqp_uri) as connection:
                kombu.Queue("spam", channel=connection.default_channel).declare()
            assert [queue["name"] for queue in rabbit_manager.get_queues(rabbit_config["vhost"])] == ["spam"]
            seen.append(rabbit_config["vhost"])

        def test_configuration_is_as_it_was():
            from nameko import config
            assert "AMQP_URI" not in config
            assert len(set(seen)) == 5
            print("used:", *seen)

        @pytest.fixture
        def message(amqp_uri):
            # In a queue with properties of its own, which whoever takes the message need not know.
            spam = kombu.Queue("spam", durable=False, queue_arguments={"x-max-length": 5})
            with kombu.Connection(amqp_uri) as connection:
                spam(connection.default_channel).declare()
                connection.Producer().publish({"a": 1}, routing_key="spam", headers={"h": 2})

        def test_take(message, get_message_from_queue):
            message = get_message_from_queue("spam")
            assert (message.payload, message.headers) == ({"a": 1}, {"h": 2})
            with pytest.raises(queue.Empty, match="'spam'"):
                get_message_from_queue("spam", block=False)

        def test_look(message, get_message_from_queue):
            assert get_message_from_queue("spam", ack=False).payload == {"a": 1}
            assert get_message_from_queue("spam").payload == {"a": 1}

        def test_wait(message, get_message_from_queue):
            get_message_from_queue("spam")
            start = time.monotonic()
            with pytest.raises(queue.Empty):
                get_message_from_queue("spam", timeout=0.3)
            assert time.monotonic() - start >= 0.3

        def test_tls_without_options(rabbit_ssl_config):
            assert urlsplit(rabbit_ssl_config["AMQP_URI"]).port == 5671
            assert rabbit_ssl_config["AMQP_SSL"] is True
    """,
        "-s",
    )
    result.assert_outcomes(passed=10)
    [used] = [line.partition("used: ")[2].split() for line in result.outlines if "used: " in line]
    vhosts = {vhost["name"] for vhost in Client(MANAGEMENT_URL).get_all_vhosts()}
    assert len(used) == 5
    assert not vhosts & set(used)


@pytest.mark.rabbitmq
def test_virtual_host_that_is_named_is_used_and_left_alone(run: Any, rabbitmq_uri: str) -> None:
    run(
        """
        import kombu
        from urllib.parse import urlsplit

        def test_virtual_host(rabbit_config):
            with kombu.Connection(rabbit_config["AMQP_URI"]) as connection:
                kombu.Queue("spam", channel=connection.default_channel).declare()

        def test_is_the_same(rabbit_config, get_message_from_queue):
            with kombu.Connection(rabbit_config["AMQP_URI"]) as connection:
                connection.Producer().publish("hello", routing_key="spam", serializer="json")
            assert get_message_from_queue("spam").payload == "hello"

        def test_tls(rabbit_ssl_config, rabbit_ssl_uri, rabbit_ssl_options):
            from nameko import config
            parts = urlsplit(rabbit_ssl_config["AMQP_URI"])
            assert parts.port == 1234
            assert parts.username == rabbit_ssl_config["username"] == "guest"
            assert parts.path[1:] == rabbit_ssl_config["vhost"]
            assert rabbit_ssl_config["AMQP_URI"] == rabbit_ssl_uri == config["AMQP_URI"]
            assert rabbit_ssl_config["AMQP_SSL"] == rabbit_ssl_options == config["AMQP_SSL"]
            assert rabbit_ssl_options == {"ca_certs": "ca.pem", "verify": False}
        """,
        *("--rabbit-amqp-uri", rabbitmq_uri, "--rabbit-ctl-uri", MANAGEMENT_URL),
        *("--amqp-ssl-port", "1234", "--amqp-ssl-option", "ca_certs=ca.pem", "--amqp-ssl-option", "verify=false"),
    ).assert_outcomes(passed=3)
    with kombu.Connection(rabbitmq_uri) as connection:
        assert kombu.Queue("spam")(connection.default_channel).queue_declare(passive=True).queue == "spam"


def test_mistakes_are_one_clear_line(run: Any) -> None:
    result = run(
        """
        def test_management(rabbit_config): ...
        def test_tls(rabbit_ssl_options): ...
        """,
        *("--rabbit-api-uri", "http://guest:s3cret@127.0.0.1:1", "--amqp-ssl-option", "ca_certs"),
    )
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["no management API of RabbitMQ on 127.0.0.1:1*--rabbit-api-uri*"])
    result.stdout.fnmatch_lines(["*--amqp-ssl-option 'ca_certs': write KEY=VALUE*"])
    result.stdout.no_fnmatch_line("*s3cret*")
