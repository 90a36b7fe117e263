"""Greenthreads that keep all others from running: the connection stays, and somebody hears of it."""

from __future__ import annotations

import pytest

from nameko import concurrency
from nameko.amqp.hub_watch import PULSE_S, STALL_S, HubWatch

pytestmark = pytest.mark.rabbitmq

block = concurrency.original("time").sleep


def test_connections_outlive_a_stall(make_broker, rabbitmq_uri, eventually):
    broker = make_broker(rabbitmq_uri, HEARTBEAT=1)
    connections = [broker._publishing().connection, broker._consuming().connection]
    raw = [connection.raw for connection in connections]
    concurrency.sleep(0.1)
    block(3.2)  # the broker gives up after two to three heartbeats
    broker.publish(1, exchange="", routing_key="nowhere")
    for each in raw:
        each.channel().close()  # the broker answers over each of them
    assert [connection.raw for connection in connections] == raw


def test_a_process_that_hangs_loses_its_connections(make_broker, rabbitmq_uri, eventually):
    broker = make_broker(rabbitmq_uri, HEARTBEAT=1)
    connection = broker._consuming().connection
    raw = connection.raw
    concurrency.sleep(0.1)
    block(8)
    eventually(lambda: connection.connected and connection.raw is not raw)


def test_a_stall_is_reported_while_it_lasts_and_counts_against_readiness(
    make_broker, rabbitmq_uri, capfd, caplog, eventually
):
    broker = make_broker(rabbitmq_uri)
    assert broker.not_ready_reasons() == []
    concurrency.sleep(0.1)

    def hog():
        block(STALL_S + 3 * PULSE_S)
        assert "greenthreads have had no turn" in capfd.readouterr().err
        (reason,) = broker.not_ready_reasons()
        assert reason.startswith("greenthreads had to wait")

    concurrency.spawn(hog).wait()
    eventually(lambda: "greenthreads had no turn" in caplog.text)
    assert "hog (" in caplog.text
    eventually(lambda: broker.not_ready_reasons() == [], timeout_s=10)


def test_nothing_is_watched_without_a_connection(eventually):
    def watching():
        return [each for each in concurrency.original("threading").enumerate() if each.name == "nameko-hub-watch"]

    class Heart:
        def beat_for_stalled_hub(self, stalled_s):
            raise AssertionError("the hub is not stalled")

    eventually(lambda: not watching())
    watch, heart = HubWatch(), Heart()
    watch.add(heart)
    assert len(watching()) == 1
    assert watch.lag_s == 0
    watch.remove(heart)
    eventually(lambda: not watching())
    assert watch.lag_s == 0
