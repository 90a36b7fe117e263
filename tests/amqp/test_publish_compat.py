"""nameko 2.14's `nameko.amqp.publish`."""

from __future__ import annotations

import socket
import threading

import kombu
import pytest
from amqp.exceptions import NotFound
from kombu.exceptions import OperationalError

from nameko import messaging
from nameko.amqp.publish import Publisher, UndeliverableMessage, get_connection, get_producer
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError

EXCHANGE = kombu.Exchange("compat", type="direct")
QUEUE = kombu.Queue("compat", EXCHANGE, routing_key="key")


def fetch(uri):
    with get_connection(uri) as connection:
        return QUEUE(connection.default_channel).get(no_ack=True)


def publish(publisher, payload, **options):
    publisher.publish(payload, exchange="compat", routing_key="key", **options)


@pytest.fixture(autouse=True)
def _no_pools_left():
    yield
    kombu.pools.reset()


def test_names_of_the_package():
    import nameko.amqp

    assert nameko.amqp.UndeliverableMessage is UndeliverableMessage
    assert nameko.amqp.get_connection is get_connection
    assert nameko.amqp.get_producer is get_producer
    assert (UndeliverableMessage.__module__, Publisher.__module__) == ("nameko.amqp.publish", "nameko.amqp.publish")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = nameko.amqp.no_such_name


def test_defaults_on_the_class():
    defaults = (Publisher.use_confirms, Publisher.delivery_mode, Publisher.mandatory, Publisher.priority)
    assert defaults == (True, 2, False, 0)
    assert (Publisher.expiration, Publisher.serializer, Publisher.compression) == (None, "json", None)
    assert (Publisher.retry, dict(Publisher.retry_policy)) == (True, {"max_retries": 3})


def test_publish(broker_uri):
    publish(Publisher(broker_uri, declare=[QUEUE]), {"a": 1})
    message = fetch(broker_uri)
    assert message.payload == {"a": 1}
    assert (message.properties["delivery_mode"], message.properties["priority"]) == (2, 0)
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")


def test_undeliverable(broker_uri):
    publisher = Publisher(broker_uri, declare=[EXCHANGE], mandatory=True)
    with pytest.raises(UndeliverableMessage):
        publisher.publish(1, exchange="compat", routing_key="nobody")
    publisher.publish(1, exchange="compat", routing_key="nobody", mandatory=False)
    publish(publisher, 2, declare=[QUEUE])
    assert fetch(broker_uri).payload == 2


def test_mandatory_without_confirms_warns_and_loses(broker_uri):
    publisher = Publisher(broker_uri, declare=[QUEUE], mandatory=True, use_confirms=False)
    for _ in range(20):
        with pytest.warns(UserWarning, match="lost silently"):
            publisher.publish(1, exchange="compat", routing_key="nobody")


def test_options_of_message_constructor_and_class(broker_uri):
    class Mine(Publisher):
        priority = 1
        delivery_mode = 1
        declare = (QUEUE,)

    publisher = Mine(broker_uri, priority=2, headers={"a": 1, "b": 1}, expiration=60, app_id="mine")
    publish(publisher, 1, priority=3, headers={"b": 2, "c": 2}, extra_headers={"c": 3})
    message = fetch(broker_uri)
    assert message.headers == {"a": 1, "b": 2, "c": 3}
    properties = message.properties
    assert (properties["priority"], properties["delivery_mode"], properties["expiration"]) == (3, 1, "60000")
    assert properties["app_id"] == "mine"


def test_compression(broker_uri):
    publish(Publisher(broker_uri, declare=[QUEUE], compression="gzip"), "x" * 1000)
    message = fetch(broker_uri)
    assert message.headers["compression"] == "application/x-gzip"
    assert message.payload == "x" * 1000


def test_a_missing_exchange(broker_uri):
    publisher = Publisher(broker_uri)
    with pytest.raises(NotFound):
        publisher.publish(1, exchange="no-such-exchange", routing_key="key")
    publish(publisher, 2, declare=[QUEUE])
    assert fetch(broker_uri).payload == 2


def test_connections_are_pooled(broker_uri):
    with get_connection(broker_uri) as first:
        pass
    with get_connection(broker_uri) as second, get_connection(broker_uri) as third:
        assert third is not second
    assert second is first


def test_producers_are_pooled_apart_for_confirms(broker_uri):
    with get_producer(broker_uri) as first:
        assert first.connection.transport_options["confirm_publish"] is True
    with get_producer(broker_uri) as second, get_producer(broker_uri, confirms=False) as third:
        assert second is first
        assert third.connection.transport_options["confirm_publish"] is False


def test_a_lost_connection_is_made_again(proxy):
    publisher = Publisher(proxy.uri, declare=[QUEUE])
    publish(publisher, 1)
    proxy.reset_all()
    publish(publisher, 2)
    assert [fetch(proxy.uri).payload for _ in range(2)] == [1, 2]


# -- TLS


def connect(uri, ssl, **options):
    with get_connection(uri, ssl=ssl, transport_options={"max_retries": 1}, **options) as connection:
        connection.connect()


def produce(uri, ssl):
    with get_producer(uri, ssl=ssl, transport_options={"max_retries": 1}) as producer:
        producer.connection.connect()


def publish_retrying(uri, ssl):
    publish(Publisher(uri, ssl=ssl, declare=[QUEUE], retry_policy={"max_retries": 1}), 1)


@pytest.mark.parametrize("use", [connect, produce, publish_retrying])
@pytest.mark.parametrize("certificate", ["wrong-host", "expired"])
def test_a_certificate_that_does_not_verify_is_refused(tls_listener, certificates, use, certificate):
    listener = tls_listener(certificate)
    with pytest.raises((OSError, OperationalError), match="certificate verify failed"):
        use(listener.uri, {"ca_certs": str(certificates / "ca.pem")})
    assert listener.connects == 0


@pytest.mark.parametrize("ssl", [None, True])
def test_an_authority_that_is_not_known_is_refused(tls_listener, ssl):
    listener = tls_listener("good")
    with pytest.raises(OSError, match="certificate verify failed"):
        connect(listener.uri, ssl)
    assert listener.connects == 0


def test_a_certificate_that_verifies_does_so_again(tls_listener, certificates):
    listener = tls_listener("good")
    with get_connection(listener.uri, ssl={"ca_certs": str(certificates / "ca.pem")}) as connection:
        connection.connect()
        connection.collect()
        connection.connect()
    assert listener.connects == 2


def test_each_address_has_a_name_of_its_own(tls_listener, certificates, unused_uri):
    listener = tls_listener("good")
    uris = f"{unused_uri};{listener.uri}"
    with get_connection(uris, ssl={"ca_certs": str(certificates / "ca.pem")}) as connection:
        connection.ensure_connection(max_retries=3, interval_start=0, interval_step=0)
    assert listener.connects == 1


def test_the_next_address_is_verified_too(tls_listener, certificates, unused_uri):
    listener = tls_listener("wrong-host")
    uris = f"{unused_uri};{listener.uri}"
    with (
        get_connection(uris, ssl={"ca_certs": str(certificates / "ca.pem")}) as connection,
        pytest.raises(OperationalError, match="Hostname mismatch"),
    ):
        connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
    assert listener.connects == 0


def test_a_publisher_with_an_address_of_its_own_is_verified(tls_listener, certificates):
    elsewhere = tls_listener("wrong-host")

    class Elsewhere(messaging.Publisher):
        amqp_uri = elsewhere.uri

    class Service:
        name = "service"
        publish = Elsewhere(exchange=EXCHANGE)

    config = {"AMQP_URI": tls_listener("good").uri, "AMQP_SSL": {"ca_certs": str(certificates / "ca.pem")}}
    container = ServiceContainer(Service, config)
    with pytest.raises((OSError, OperationalError), match="Hostname mismatch"):
        container.start()
    container.kill()
    assert elsewhere.connects == 0


@pytest.fixture
def unused_uri():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    return f"amqps://guest:guest@127.0.0.1:{port}/"


def test_verification_is_off_only_where_it_was_turned_off(tls_listener, certificates):
    listener = tls_listener("wrong-host")
    for options in ({"verify": False}, {"ca_certs": str(certificates / "ca.pem"), "check_hostname": False}):
        connect(listener.uri, options)
    assert listener.connects == 2
    with pytest.raises(OSError, match="Hostname mismatch"):  # not one of the pool of the others
        connect(listener.uri, {"ca_certs": str(certificates / "ca.pem")})
    assert listener.connects == 2


def test_an_unknown_option_is_refused(rabbitmq_uri):
    with pytest.raises(ConfigurationError, match="unknown option `verfy`"):
        connect(rabbitmq_uri, {"verfy": False})


class FirstBytes:
    """Listens, keeps the first byte of whoever connects, and hangs up."""

    def __init__(self):
        self.seen = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"guest:guest@127.0.0.1:{self._listening.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while True:
            client, _ = self._listening.accept()
            with client:
                client.settimeout(10)
                first = client.recv(1)
            if first == b"q":
                return
            self.seen.append(first)

    def close(self):
        with socket.create_connection(self._listening.getsockname()) as client:
            client.sendall(b"q")
            self._thread.join(timeout=10)
        self._listening.close()


@pytest.fixture
def first_bytes():
    listener = FirstBytes()
    yield listener
    listener.close()


CLIENT_HELLO = b"\x16"


@pytest.mark.parametrize("use", [connect, produce, publish_retrying])
@pytest.mark.parametrize(
    "uri",
    ["AMQPS://{0}", "PyAmqpS://{0}", " amqps://{0}", "amqp://{0};amqps://{0}", "amqp://{0}; AMQPS://{0} ;"],
)
def test_nothing_is_sent_in_clear_where_any_address_asks_for_tls(use, uri, first_bytes):
    with pytest.raises((OSError, OperationalError)):
        use(uri.format(first_bytes.address), None)
    assert set(first_bytes.seen) == {CLIENT_HELLO}


@pytest.mark.parametrize("use", [connect, produce, publish_retrying])
@pytest.mark.parametrize(
    ("uri", "ssl"),
    [("amqps://{0}", False), ("amqps://{0}", 0), ("AMQPS://{0}", False), ("amqp://{0};amqps://{0}", False)],
)
def test_no_tls_for_an_address_that_asks_for_it_is_refused(use, uri, ssl, first_bytes):
    with pytest.raises(ConfigurationError, match=r"^ssl \(AMQP_SSL\) is false, but the URI asks for TLS \(amqps\).*$"):
        use(uri.format(first_bytes.address), ssl)
    assert first_bytes.seen == []


def test_plain_addresses_are_connected_to_as_they_are(first_bytes):
    with pytest.raises((OSError, OperationalError)):
        connect(f"amqp://{first_bytes.address}", None)
    assert set(first_bytes.seen) == {b"A"}


def test_the_broker_within_the_process_may_be_in_capitals():
    publish(Publisher("MEMORY://localhost/capitals", declare=[QUEUE]), 1)
    assert fetch("memory://localhost/capitals").payload == 1
