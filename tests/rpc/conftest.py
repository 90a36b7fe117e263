"""Services that are stopped afterwards; raw AMQP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import amqp
import kombu
import pytest

from harness.fixtures import log, network, network_uri, processes, service_process  # noqa: F401
from nameko import concurrency
from nameko.amqp import memory
from nameko.standalone.rpc import ClusterRpcProxy


@pytest.fixture
def cluster(broker_config: dict[str, Any]) -> Iterator[Any]:
    """A standalone proxy for all services."""
    with ClusterRpcProxy(broker_config, timeout=10) as proxy:
        yield proxy


@pytest.fixture
def connect(broker_uri: str) -> Iterator[Callable[[], kombu.Connection]]:
    """`connect()` gives a plain kombu connection to the broker of this test."""
    with ExitStack() as connections:

        def make() -> kombu.Connection:
            transport = {"transport": memory.Transport} if broker_uri.startswith("memory") else {}
            return connections.enter_context(kombu.Connection(broker_uri, **transport))

        yield make


class Raw:
    """Sends and receives messages exactly as told, as a client that knows nothing of nameko."""

    def __init__(self, channel: Any) -> None:
        self.channel = channel
        self.reply_to = "11111111-2222-3333-4444-555555555555"
        self.queue = channel.queue_declare("", exclusive=True).queue

    def bind(self) -> None:
        self.channel.queue_bind(self.queue, "nameko-rpc", self.reply_to)

    def send(self, body: bytes | str, routing_key: str, exchange: str = "nameko-rpc", **properties: Any) -> None:
        properties = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        message = amqp.Message(body, application_headers=properties.pop("headers", None), **properties)
        self.channel.basic_publish(message, exchange=exchange, routing_key=routing_key)

    def receive(self, timeout_s: float = 5) -> Any:
        """The next message in the queue; fails when there is none."""
        deadline = concurrency.original("time").monotonic() + timeout_s
        while concurrency.original("time").monotonic() < deadline:
            message = self.channel.basic_get(self.queue, no_ack=True)
            if message is not None:
                return message
            concurrency.sleep(0.01)
        raise AssertionError(f"no message within {timeout_s} s")


@pytest.fixture
def raw(connect: Callable[[], kombu.Connection]) -> Raw:
    return Raw(connect().default_channel)
