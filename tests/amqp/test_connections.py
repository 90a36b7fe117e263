"""Connections: shared, kept up, given back; and starts that fail with one line."""

from __future__ import annotations

import gc
import logging
import os
import struct
import time

import kombu
import pytest

from nameko import concurrency
from nameko.amqp import BrokerRefused, BrokerUnreachable, PublishTimeout, connections
from nameko.amqp.connections import BACKOFF_MAX_S, BACKOFF_MIN_S, BRIEF_S, State, backoff_s
from nameko.amqp.registry import registry
from nameko.amqp.settings import AmqpSettings
from nameko.exceptions import ConfigurationError, TemporaryFailure

EXCHANGE = kombu.Exchange("things", type="topic")
QUEUE = kombu.Queue("things", EXCHANGE, routing_key="thing.#")


def keep(got):
    return lambda message: (got.append(message.payload), message.ack())


def publish(broker, payload, **options):
    broker.publish(payload, exchange="things", routing_key="thing.a", mandatory=True, **options)


def connections_of(broker):
    return broker._publishing().connection, broker._consuming().connection


# -- starting


def test_wrong_password(make_broker, rabbitmq_uri):
    started_at = time.monotonic()
    with pytest.raises(BrokerRefused) as raised:
        make_broker(rabbitmq_uri.replace("guest:guest", "guest:wr0ng-s3cret"))
    assert time.monotonic() - started_at < 5
    text = str(raised.value)
    assert "ACCESS_REFUSED" in text
    assert text.endswith("; check user, password and virtual host in AMQP_URI")
    assert "wr0ng" not in text
    assert "\n" not in text
    assert isinstance(raised.value, ConfigurationError)


def test_unknown_virtual_host(make_broker, rabbitmq_uri):
    with pytest.raises(BrokerRefused, match="vhost no-such-vhost not found"):
        make_broker(rabbitmq_uri.rpartition("/")[0] + "/no-such-vhost")


def test_tls_to_a_port_that_is_plain(make_broker, rabbitmq_uri):
    with pytest.raises(BrokerRefused, match=r"is the port right, and one for TLS\?$"):
        make_broker(rabbitmq_uri, AMQP_SSL=True)


def test_broker_away_at_start(make_broker):
    with concurrency.socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    started_at = time.monotonic()
    with pytest.raises(BrokerUnreachable, match="Connection refused") as raised:
        make_broker(f"pyamqp://user:s3cret@127.0.0.1:{port}//", START_TIMEOUT=1)
    assert 0.9 < time.monotonic() - started_at < 2
    assert isinstance(raised.value, TemporaryFailure)
    assert isinstance(raised.value, ConnectionError)
    assert "s3cret" not in str(raised.value)


def test_unknown_host(make_broker):
    with pytest.raises(BrokerUnreachable):
        make_broker("pyamqp://user:pw@no-such-host.invalid//", START_TIMEOUT=0.5)


def test_broker_that_comes_up_late(make_broker, proxy):
    proxy.refusing = True
    concurrency.spawn_after(0.5, setattr, proxy, "refusing", False)
    broker = make_broker(proxy.uri, START_TIMEOUT=20)
    broker.declare(EXCHANGE)


def test_broker_that_accepts_and_says_nothing(make_broker, proxy):
    proxy.hold()
    started_at = time.monotonic()
    with pytest.raises(BrokerUnreachable, match=r"no connection within 0\.4 s"):
        make_broker(proxy.uri, START_TIMEOUT=1, CONNECT_TIMEOUT=0.4)
    assert time.monotonic() - started_at < 2


def test_something_else_on_the_port(make_broker):
    listener = concurrency.listen(("127.0.0.1", 0))

    def serve():
        while True:
            sock, _ = listener.accept()
            sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            sock.close()

    thread = concurrency.spawn(serve)
    with pytest.raises(BrokerRefused, match=r"it does not speak AMQP there .*, and plain or TLS \(amqps://\)\?$"):
        make_broker(f"pyamqp://guest:guest@127.0.0.1:{listener.getsockname()[1]}//", START_TIMEOUT=5)
    thread.kill()
    listener.close()


def test_the_second_of_two_brokers_when_the_first_is_away(make_broker, rabbitmq_uri):
    broker = make_broker(f"pyamqp://guest:guest@127.0.0.1:1//;{rabbitmq_uri}", START_TIMEOUT=10)
    broker.declare(EXCHANGE)


def test_the_second_of_two_brokers_when_the_first_refuses(make_broker, rabbitmq_uri):
    started_at = time.monotonic()
    broker = make_broker(f"{rabbitmq_uri.rpartition('/')[0]}/no-such-vhost;{rabbitmq_uri}")
    broker.declare(EXCHANGE)
    assert time.monotonic() - started_at < 3


def test_two_brokers_that_refuse(make_broker, rabbitmq_uri):
    wrong_password = rabbitmq_uri.replace("guest:guest", "guest:wr0ng-s3cret")
    started_at = time.monotonic()
    with pytest.raises(
        BrokerRefused, match=r"no-such-vhost: .*vhost .* not found.*; pyamqp://.*ACCESS_REFUSED"
    ) as raised:
        make_broker(f"{rabbitmq_uri.rpartition('/')[0]}/no-such-vhost;{wrong_password}")
    assert time.monotonic() - started_at < 5
    assert str(raised.value).endswith("; check user, password and virtual host in AMQP_URI")
    assert "wr0ng" not in str(raised.value)


def test_one_broker_that_refuses_and_one_that_is_away(make_broker, rabbitmq_uri):
    uris = f"{rabbitmq_uri.rpartition('/')[0]}/no-such-vhost;pyamqp://guest:guest@127.0.0.1:1//"
    with pytest.raises(
        BrokerUnreachable, match=r"no-such-vhost: .*vhost .* not found.*; pyamqp://.*Connection refused"
    ):
        make_broker(uris, START_TIMEOUT=1)


def test_a_failed_start_leaves_nothing_behind(make_broker, eventually):
    with pytest.raises(BrokerUnreachable):
        make_broker("pyamqp://user:pw@127.0.0.1:1//leftover", START_TIMEOUT=0.3)
    assert not [key for key in registry._leased if "leftover" in key[3].uri]


# -- coming back


def test_what_one_connection_finds_out_the_others_need_not_wait_for(make_broker, proxy, eventually, monkeypatch):
    publishing, consuming = connections_of(make_broker(proxy.uri))
    waiting = []

    def an_hour_after_the_second_failure(failures, **_):
        if failures:
            waiting.append(failures)
        return 3600 if failures else 0.05

    monkeypatch.setattr(connections, "backoff_s", an_hour_after_the_second_failure)
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: len(waiting) == 2)
    proxy.refusing = False
    lease = registry.lease(publishing.settings, "other")
    eventually(lambda: publishing.connected and consuming.connected)
    lease.give_back()


class Thrower:
    """Has each connection reset as soon as it is up."""

    def __init__(self, proxy):
        self._proxy = proxy
        self.times = 0

    def connection_up(self, raw):
        self.times += 1
        self._proxy.reset_all()

    def connection_lost(self, error):
        pass


def test_a_broker_that_throws_out_whoever_has_come_in_is_asked_ever_less(make_broker, proxy, eventually, caplog):
    thrower, publishing = Thrower(proxy), connections_of(make_broker(proxy.uri))[0]
    started_at = time.monotonic()
    publishing.add(thrower)
    eventually(lambda: thrower.times >= 7)
    assert time.monotonic() - started_at >= (1 + 2 + 4 + 8 + 16) * BACKOFF_MIN_S / 2
    assert caplog.text.count("publish connection to") <= 3
    publishing.remove(thrower)
    eventually(lambda: publishing.connected)


# -- sharing


def test_containers_share_two_connections_which_the_last_one_closes(make_broker, proxy, eventually):
    first, second = make_broker(proxy.uri), make_broker(proxy.uri)
    assert connections_of(first) == connections_of(second)
    assert len(proxy.links) == 2
    publish_connection, consume_connection = connections_of(first)
    first.container.stop()
    second.declare(EXCHANGE)
    assert publish_connection.connected
    second.container.stop()
    assert publish_connection.state is consume_connection.state is State.CLOSED


def test_different_settings_do_not_share(make_broker, rabbitmq_uri):
    first, second = make_broker(rabbitmq_uri), make_broker(rabbitmq_uri, HEARTBEAT=30)
    assert connections_of(first)[0] is not connections_of(second)[0]


def test_connections_are_named(make_broker, rabbitmq_uri):
    broker = make_broker(rabbitmq_uri)
    names = [connection.raw.client_properties["connection_name"] for connection in connections_of(broker)]
    assert names == [f"nameko publish (pid {os.getpid()})", f"nameko consume (pid {os.getpid()})"]


def test_a_killed_container_gives_its_share_back(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    broker.subscribe(QUEUE, keep(got))
    connections = connections_of(broker)
    broker.container.kill()
    assert [connection.state for connection in connections] == [State.CLOSED] * 2


def test_one_container_stops_while_another_works(make_broker, broker_uri, eventually):
    leaving, staying, got = make_broker(broker_uri), make_broker(broker_uri), []
    leaving.subscribe(kombu.Queue("other", EXCHANGE, routing_key="other"), keep([]))
    staying.subscribe(QUEUE, keep(got))
    for end in (leaving.container.stop, leaving.container.kill):
        end()
        publish(staying, "still here")
    eventually(lambda: len(got) == 2)


# -- loss


def test_readiness_follows_the_connections(make_broker, proxy, eventually):
    broker = make_broker(proxy.uri)
    broker.subscribe(QUEUE, keep([]))
    assert broker.container.not_ready_reasons() == []
    proxy.refusing = True
    proxy.reset_all()
    reasons = eventually(lambda: broker.container.not_ready_reasons())
    eventually(lambda: len(broker.container.not_ready_reasons()) == 3)
    reasons = broker.container.not_ready_reasons()
    assert any("no publish connection to pyamqp://guest:********@" in reason for reason in reasons)
    assert "queue things is not consumed" in reasons
    proxy.refusing = False
    eventually(lambda: broker.container.not_ready_reasons() == [], timeout_s=10)


def numbers_of(container):
    return {(stat.name, stat.labels.get("connection")): stat.value for stat in container.plugins.stats(container)}


def test_numbers_follow_the_connections(make_broker, proxy, eventually):
    broker = make_broker(proxy.uri)
    numbers = numbers_of(broker.container)
    for role in ("publish", "consume"):
        assert numbers["nameko_amqp_connected", role] == 1
        assert numbers["nameko_amqp_blocked", role] == 0
        assert numbers["nameko_amqp_reconnects", role] == 0
    assert numbers["nameko_amqp_messages_rejected", None] == 0
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: numbers_of(broker.container)["nameko_amqp_connected", "consume"] == 0)
    proxy.refusing = False
    eventually(lambda: broker.container.not_ready_reasons() == [], timeout_s=10)
    assert numbers_of(broker.container)["nameko_amqp_reconnects", "consume"] == 1
    broker.container.stop()
    assert ("nameko_amqp_connected", "consume") not in numbers_of(broker.container)


def test_numbers_of_messages(make_broker, broker_uri, eventually):
    broker, arrived, release = make_broker(broker_uri), [], concurrency.Event()
    broker.subscribe(QUEUE, lambda message: (arrived.append(message), release.wait(), message.ack()))
    broker.counters["re-plies late"] += 2  # whatever an extension calls it
    for _ in range(3):
        publish(broker, "x")
    eventually(lambda: len(arrived) == 1 and numbers_of(broker.container)["nameko_amqp_messages_waiting", None] == 2)
    assert numbers_of(broker.container)["nameko_amqp_re_plies_late", None] == 2
    release.send(None)
    eventually(lambda: numbers_of(broker.container)["nameko_amqp_messages_waiting", None] == 0)


def test_log_lines_are_few_while_the_broker_is_away(make_broker, proxy, eventually, caplog):
    caplog.set_level(logging.INFO)
    broker = make_broker(proxy.uri)
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: proxy_attempts(broker) >= 6, timeout_s=20)
    lines = [record.getMessage() for record in caplog.records if record.name == "nameko.amqp.loss_log"]
    assert len([line for line in lines if "is lost" in line]) == 2
    assert len([line for line in lines if "cannot be made" in line]) <= 4
    proxy.refusing = False
    eventually(lambda: all(connection.connected for connection in connections_of(broker)), timeout_s=10)
    assert len([record for record in caplog.records if "is back after" in record.getMessage()]) == 2


def proxy_attempts(broker):
    # Each failed attempt sets the error anew.
    connection = connections_of(broker)[0]
    seen = proxy_attempts.seen
    if connection.error is not None and not any(connection.error is error for error in seen):
        seen.append(connection.error)
    return len(seen)


proxy_attempts.seen = []


def test_backoff_grows_to_its_limit_with_jitter():
    waits = [[backoff_s(failures) for _ in range(100)] for failures in range(20)]
    assert all(0 < wait <= BACKOFF_MAX_S for each in waits for wait in each)
    assert max(waits[0]) <= 0.1
    assert min(waits[-1]) >= BACKOFF_MAX_S / 2
    assert len(set(waits[-1])) > 50
    assert min(backoff_s(0, refused=True) for _ in range(100)) >= BACKOFF_MAX_S


def test_a_silent_broker_is_noticed_by_its_heartbeats(make_broker, proxy, eventually):
    broker = make_broker(proxy.uri, HEARTBEAT=1)
    connections = connections_of(broker)
    proxy.hold()
    started_at = time.monotonic()
    eventually(lambda: not any(connection.connected for connection in connections), timeout_s=5)
    assert 1.5 < time.monotonic() - started_at < 2 * 1 + 2
    assert "no sign of life from the broker" in str(connections[0].error)
    proxy.reset_all()
    proxy.release()
    eventually(lambda: all(connection.connected for connection in connections), timeout_s=10)


def test_a_frame_that_does_not_end_is_noticed_although_there_are_heartbeats(
    make_broker, proxy, eventually, monkeypatch, caplog
):
    monkeypatch.setattr("nameko.amqp.heart._FRAME_TIMEOUT_S", 2.5)
    broker = make_broker(proxy.uri, HEARTBEAT=1)
    connections = connections_of(broker)
    for client, *_ in proxy.links:
        client.sendall(b"\x03\x00\x01\x00\x01\x00\x00")  # the head of a frame, which swallows what comes after it
    started_at = time.monotonic()
    eventually(lambda: all(connection.reconnects == 1 for connection in connections), timeout_s=20)
    assert time.monotonic() - started_at > 2
    assert caplog.text.count("a frame from the broker is incomplete for") == 2


def test_heartbeats_keep_an_idle_connection(make_broker, proxy):
    broker = make_broker(proxy.uri, HEARTBEAT=1)
    concurrency.sleep(3.5)  # RabbitMQ drops a client that is silent for two intervals
    assert all(connection.connected for connection in connections_of(broker))
    assert proxy.accepted == 2


def test_a_process_that_stood_still_does_not_take_the_broker_for_dead(make_broker, proxy, eventually):
    broker = make_broker(proxy.uri, HEARTBEAT=2)
    blocker = concurrency.original("time")
    blocker.sleep(3)  # no greenthread runs; RabbitMQ waits 4 s
    publish_done = []
    broker.declare(EXCHANGE)
    broker.publish_nowait(1, exchange="things", routing_key="x", on_done=publish_done.append)
    eventually(lambda: publish_done == [None])
    assert proxy.accepted == 2


def test_heartbeats_off(make_broker, rabbitmq_uri):
    broker = make_broker(rabbitmq_uri, HEARTBEAT=None)
    assert connections_of(broker)[0].raw.heartbeat == 0


def test_many_reconnects_leave_no_descriptors_behind(make_broker, proxy, eventually):
    broker, got = make_broker(proxy.uri), []
    broker.subscribe(QUEUE, keep(got))

    def descriptors():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    def break_and_recover(number):
        up_at = time.monotonic()
        eventually(lambda: time.monotonic() > up_at + BRIEF_S)  # else the pauses would grow
        proxy.reset_all()
        publish(broker, number, timeout_s=10)
        eventually(lambda: number in got and len(proxy.links) == 2, timeout_s=10)

    for number in range(3):
        break_and_recover(number)
    before = descriptors()
    for number in range(3, 25):
        break_and_recover(number)
    eventually(lambda: descriptors() <= before + 2)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x32\xff",  # a frame that does not end as one
        b"\xff" * 100,
        b"\x02\x00\x01\x00\x00\x00\x00\xce",  # a content header out of place
        b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x63\xce",  # a method that does not exist
        b"\x01\x00\x01\x00\x00\x00\x05\x00\x14\x00\x28\x00\xce",  # channel.close, cut short
    ],
)
def test_garbage_from_the_broker_is_a_lost_connection(make_broker, proxy, eventually, garbage):
    broker, got = make_broker(proxy.uri), []
    broker.subscribe(QUEUE, keep(got))
    for client, *_ in proxy.links:
        client.sendall(garbage)
    eventually(lambda: proxy.accepted == 4)
    publish(broker, 1, timeout_s=10)
    eventually(lambda: got)


def test_a_connection_that_worked_is_not_said_to_go_to_the_wrong_port(make_broker, proxy, eventually, caplog):
    connections = connections_of(make_broker(proxy.uri))
    reason = b"FRAME_ERROR - too large"
    arguments = struct.pack(">HB", 501, len(reason)) + reason + struct.pack(">HH", 0, 0)
    frame = struct.pack(">BHIHH", 1, 0, 4 + len(arguments), 10, 50) + arguments + b"\xce"  # connection.close
    for client, *_ in proxy.links:
        client.sendall(frame)
    eventually(lambda: all(connection.reconnects == 1 for connection in connections))
    (line, _) = [line for line in caplog.messages if "is lost" in line]
    assert "(501) FRAME_ERROR - too large" in line
    assert "does not speak AMQP" not in line


# -- blocked by the broker


def blocked_frame(reason=b"low on memory"):
    arguments = struct.pack(">HHB", 10, 60, len(reason)) + reason
    return struct.pack(">BHI", 1, 0, len(arguments)) + arguments + b"\xce"


UNBLOCKED_FRAME = struct.pack(">BHIHH", 1, 0, 4, 10, 61) + b"\xce"


def test_publishers_wait_while_the_broker_takes_no_messages(make_broker, proxy, eventually, caplog):
    """What RabbitMQ says under an alarm, said by the proxy."""
    broker, got, outcomes = make_broker(proxy.uri, HEARTBEAT=1), [], []
    broker.subscribe(QUEUE, keep(got))
    connection = connections_of(broker)[0]
    for client, *_ in proxy.links:
        client.sendall(blocked_frame())
    eventually(lambda: connection.blocked)
    assert "connection blocked: low on memory" in caplog.text
    assert any("takes no messages: low on memory" in reason for reason in broker.container.not_ready_reasons())
    started_at = time.monotonic()
    with pytest.raises(PublishTimeout, match="takes no messages: low on memory; it was not sent"):
        publish(broker, "too late", timeout_s=0.3)
    assert time.monotonic() - started_at < 0.8
    broker.publish_nowait("waits", exchange="things", routing_key="thing.a", on_done=outcomes.append)
    concurrency.sleep(2.5)  # heartbeats go on meanwhile
    assert connection.blocked
    assert proxy.accepted == 2
    for client, *_ in proxy.links:
        client.sendall(UNBLOCKED_FRAME)
    eventually(lambda: outcomes == [None] and got == ["waits"])
    assert broker.container.not_ready_reasons() == []


# -- stopping, in every state


def within(limit_s, fn):
    started_at = time.monotonic()
    fn()
    assert time.monotonic() - started_at < limit_s


@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("state", ["away", "silent", "blocked", "connecting"])
def test_the_end_is_prompt_in_every_state_of_the_broker(make_broker, proxy, eventually, state, end):
    broker = make_broker(proxy.uri)
    broker.subscribe(QUEUE, keep([]))
    connections = connections_of(broker)
    if state == "away":
        proxy.refusing = True
        proxy.reset_all()
        eventually(lambda: not any(connection.connected for connection in connections))
    elif state == "silent":
        proxy.hold()
    elif state == "blocked":
        for client, *_ in proxy.links:
            client.sendall(blocked_frame())
        eventually(lambda: all(connection.blocked for connection in connections))
        proxy.hold()
    else:
        proxy.hold()
        proxy.reset_all()
        eventually(lambda: proxy.accepted == 4)
    broker.publish_nowait(1, exchange="things", routing_key="thing.a", on_done=lambda error: None)
    within(0.5 if end == "kill" else 3.5, getattr(broker.container, end))
    assert all(connection.state is State.CLOSED for connection in connections)


def test_a_stop_that_is_given_up_gives_back_everything(make_broker, proxy, eventually):
    broker, outcomes = make_broker(proxy.uri, SHUTDOWN_TIMEOUT=0), []
    subscription = broker.subscribe(QUEUE, keep([]))
    connections = connections_of(broker)
    proxy.hold()
    broker.publish_nowait(1, exchange="things", routing_key="thing.a", on_done=outcomes.append)
    within(2, broker.container.stop)
    eventually(lambda: all(connection.state is State.CLOSED for connection in connections))
    assert subscription.closed
    assert [type(outcome) for outcome in outcomes] == [ConnectionError]


def test_stop_waits_for_what_was_published_without_waiting(make_broker, broker_uri):
    broker, outcomes = make_broker(broker_uri), []
    broker.declare(QUEUE)
    for number in range(100):
        broker.publish_nowait(number, exchange="things", routing_key="thing.a", on_done=outcomes.append)
    broker.container.stop()
    assert outcomes == [None] * 100


def test_what_is_pending_when_the_container_is_killed_is_told(make_broker, proxy):
    broker, outcomes = make_broker(proxy.uri), []
    broker.declare(EXCHANGE)
    proxy.hold()
    broker.publish_nowait(1, exchange="things", routing_key="x", on_done=outcomes.append)
    broker.container.kill()
    assert [type(outcome) for outcome in outcomes] == [ConnectionError]


def test_a_user_that_fails_does_not_hurt_the_connection(rabbitmq_uri, eventually, caplog):
    class Bad:
        def connection_up(self, raw):
            raise RuntimeError("oops")

        connection_lost = connection_relieved = connection_up

    lease = registry.lease(AmqpSettings.from_config({"AMQP_URI": rabbitmq_uri}), "test")
    lease.connection.add(Bad())
    lease.connection.wait_connected(5)
    eventually(lambda: "failed in connection_up()" in caplog.text)
    assert lease.connection.connected
    lease.give_back()
    lease.give_back()
    assert lease.connection.state is State.CLOSED
