"""Services in processes of their own, on a virtual host of their own, and what can be seen of them from outside."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqp
import pytest

from harness import waiting
from harness.journal import PATH_VARIABLE, Log
from harness.node_fixtures import *  # noqa: F403  (fixtures)
from harness.process import NAMEKO, Process
from nameko import concurrency
from nameko.standalone.rpc import ClusterRpcProxy

HERE = Path(__file__).parent
# So long a process may take to start or end where that is not what is measured.
PATIENCE_S = 40


eventually = partial(waiting.eventually, timeout_s=PATIENCE_S, interval_s=0.02)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    """`eventually(condition)`: waits for a condition, with more patience than elsewhere: processes come and go."""
    return eventually


class Raw:
    """A client that knows nothing of nameko: sends and receives messages exactly as told."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        self._connection = amqp.Connection(
            f"{parts.hostname}:{parts.port}", parts.username, parts.password, virtual_host=parts.path[1:]
        )
        self._connection.connect()
        self.channel = self._connection.channel()
        self.channel.exchange_declare("nameko-rpc", "topic", durable=True, auto_delete=False)
        self.reply_to = str(uuid.uuid4())
        self._replies: list[Any] = []
        self.queue = self.channel.queue_declare("", exclusive=True).queue
        self.channel.queue_bind(self.queue, "nameko-rpc", self.reply_to)
        self.channel.basic_consume(self.queue, no_ack=True, callback=self._replies.append)

    def send(self, body: bytes | str, routing_key: str, exchange: str = "nameko-rpc", **properties: Any) -> None:
        properties = {"content_type": "application/json", "content_encoding": "utf-8", **properties}
        headers = properties.pop("headers", None)
        encoded = body.encode() if isinstance(body, str) else body
        message = amqp.Message(encoded, application_headers=headers, **properties)
        self.channel.basic_publish(message, exchange=exchange, routing_key=routing_key)

    def receive(self, timeout_s: float = PATIENCE_S) -> Any:
        """The next reply; fails when there is none."""
        clock = concurrency.original("time").monotonic
        deadline = clock() + timeout_s
        while not self._replies:
            assert clock() < deadline, f"no reply within {timeout_s} s"
            try:
                self._connection.drain_events(timeout=1)
            except TimeoutError:
                pass
        return self._replies.pop(0)

    def call(self, routing_key: str, *args: Any, patience_s: float = PATIENCE_S) -> Any:
        """The decoded body of the reply to a request. What else comes in before it is dropped."""
        correlation_id = str(uuid.uuid4())
        body = json.dumps({"args": args, "kwargs": {}})
        self.send(body, routing_key, reply_to=self.reply_to, correlation_id=correlation_id)
        while True:
            reply = self.receive(patience_s)
            if reply.properties.get("correlation_id") == correlation_id:
                return json.loads(reply.body)

    def call_at_once(self, routing_key: str, calls: Collection[Collection[Any]]) -> list[Any]:
        """The decoded bodies of the replies to several requests, in the order of their arrival."""
        for args in calls:
            body = json.dumps({"args": list(args), "kwargs": {}})
            self.send(body, routing_key, reply_to=self.reply_to, correlation_id=str(uuid.uuid4()))
        return [json.loads(self.receive().body) for _ in calls]

    def forget_replies(self) -> None:
        """Drop what has come in, as far as it has been read."""
        self._replies.clear()

    def replies_waiting(self) -> int:
        """How many replies have come in that nobody has asked for."""
        self._counts(self.queue)  # whatever was on its way has come by then
        return len(self._replies)

    def ready(self, queue: str) -> int:
        """How many messages wait in a queue; 0 as well when there is no such queue."""
        return self._counts(queue)[0]

    def consumers(self, queue: str) -> int:
        """How many consumers a queue has."""
        return self._counts(queue)[1]

    def _counts(self, queue: str) -> tuple[int, int]:
        channel = self._connection.channel()
        try:
            _, ready, consumers = channel.queue_declare(queue, passive=True)
            channel.close()
            return ready, consumers
        except amqp.NotFound:
            return 0, 0

    def close(self) -> None:
        self._connection.collect()


@dataclass
class Site:
    """One virtual host, the services on it, and clients."""

    uri: str
    directory: Path

    def __post_init__(self) -> None:
        self.effects = Log(self.directory / "effects")
        self._environ = {
            **os.environ,
            PATH_VARIABLE: str(self.effects.path),
            "PYTHONPATH": os.pathsep.join(map(str, (HERE / "services", HERE.parent / "lib", HERE.parents[1]))),
        }
        self._hosted: list[Process] = []
        self._closers: list[Callable[[], object]] = []

    def run(self, *services: str, **config: Any) -> Process:
        """Host services with `nameko run`, and wait until they consume."""
        hosted = self.start(*services, **config)
        self.wait_until_ready(hosted)
        return hosted

    def wait_until_ready(self, *processes: Process) -> None:
        """Wait until their services consume."""
        for hosted in processes:
            hosted.expect("services ready", PATIENCE_S)

    def start(self, *services: str, **config: Any) -> Process:
        """Host services with `nameko run`; nothing is waited for."""
        number = len(self._hosted)
        config_path = self.directory / f"config-{number}.yaml"
        config_path.write_text(json.dumps({"AMQP_URI": self.uri, **config}))
        command = [*NAMEKO, "run", "--config", str(config_path), *services]
        hosted = Process(command, self.directory, self._environ, self.directory / f"output-{number}.txt")
        self._hosted.append(hosted)
        return hosted

    def raw(self) -> Raw:
        """A client that knows nothing of nameko."""
        raw = Raw(self.uri)
        self._closers.append(raw.close)
        return raw

    def cluster(self, timeout_s: float = PATIENCE_S) -> Any:
        """A standalone proxy for all services."""
        proxy = ClusterRpcProxy({"AMQP_URI": self.uri}, timeout=timeout_s)
        self._closers.append(proxy.stop)
        return proxy.start()

    def close(self) -> None:
        for hosted in self._hosted:
            hosted.close()
        for close in self._closers:
            close()


@pytest.fixture(scope="module")
def make_site(
    make_rabbitmq_uri: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Site]]:
    """`make_site()`: a virtual host of its own; its processes and clients are gone after the module's last test."""
    sites: list[Site] = []

    def make() -> Site:
        sites.append(Site(make_rabbitmq_uri(), tmp_path_factory.mktemp("site")))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture(scope="module")
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()


@pytest.fixture(scope="module")
def subject(site: Site) -> Process:
    """A process with the service under test."""
    return site.run("subject:Subject")


@pytest.fixture(scope="module")
def raw(site: Site) -> Raw:
    return site.raw()


@pytest.fixture
def node_site(node_uri: str, tmp_path: Path) -> Iterator[Site]:
    """A site on the private node; services are to reach it as `AMQP_URI=proxy_uri`, clients do so directly."""
    site = Site(node_uri, tmp_path)
    yield site
    site.close()
