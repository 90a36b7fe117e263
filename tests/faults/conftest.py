"""Services in processes of their own, on a virtual host of their own, and what can be seen of them from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import amqp
import pytest

from harness.node_fixtures import *  # noqa: F403  (fixtures)
from nameko import concurrency
from nameko.standalone.rpc import ClusterRpcProxy

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RABBITMQ = "{host}:{port}".format(
    host=os.environ.get("NAMEKO_TEST_RABBITMQ_HOST", "127.0.0.1"),
    port=os.environ.get("NAMEKO_TEST_RABBITMQ_PORT", "5672"),
)
# So long a process may take to start or end where that is not what is measured.
PATIENCE_S = 40
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def eventually(condition: Callable[[], Any], timeout_s: float = PATIENCE_S, interval_s: float = 0.02) -> Any:
    """Wait until `condition()` is true, and return what it returned; fail when it never is."""
    clock = concurrency.original("time").monotonic
    deadline = clock() + timeout_s
    while not (value := condition()):
        assert clock() < deadline, f"not within {timeout_s} s: {condition}"
        concurrency.sleep(interval_s)
    return value


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., Any]:
    """`eventually(condition)`: waits for a condition, with more patience than elsewhere: processes come and go."""
    return eventually


@dataclass
class Hosted:
    """A process that hosts services, seen from outside."""

    process: subprocess.Popen[bytes]
    output_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self.output_path.read_text()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_bytes(self) -> int:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_BYTES

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for its end; the exit status."""
        return int(eventually(lambda: None if self.alive else [self.process.returncode], timeout_s)[0])

    def stop(self) -> int:
        """Have it finish; the exit status. What it has kept and not acknowledged is back in its queue then."""
        self.send(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Have it gone."""
        if self.alive:
            self.process.kill()
        concurrency.run_in_native_thread(self.process.wait)


class Effects:
    """The file that handlers write down in what they did, whatever became of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __call__(self, *starting_with: object) -> list[list[str]]:
        """The lines, each split at blanks, of those that start with the given words."""
        words = [str(word) for word in starting_with]
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [line for line in lines if line[: len(words)] == words]


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
        self.effects = Effects(self.directory / "effects")
        self.hosted: list[Hosted] = []
        self._closers: list[Callable[[], object]] = []

    def run(self, *services: str, **config: Any) -> Hosted:
        """Host services with `nameko run`, and wait until they consume."""
        hosted = self.start(*services, **config)
        self.wait_until_ready(hosted)
        return hosted

    def wait_until_ready(self, *processes: Hosted) -> None:
        """Wait until their services consume."""
        for hosted in processes:
            eventually(partial(self._is_ready, hosted))

    def start(self, *services: str, **config: Any) -> Hosted:
        """Host services with `nameko run`; nothing is waited for."""
        number = len(self.hosted)
        config_path = self.directory / f"config-{number}.yaml"
        config_path.write_text(json.dumps({"AMQP_URI": self.uri, **config}))
        output_path = self.directory / f"output-{number}.txt"
        environ = {
            **os.environ,
            "EFFECTS": str(self.effects.path),
            "PYTHONPATH": f"{HERE / 'services'}{os.pathsep}{ROOT}",
        }
        with output_path.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "nameko", "run", "--config", str(config_path), *services],
                cwd=self.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        hosted = Hosted(process, output_path)
        self.hosted.append(hosted)
        return hosted

    def _is_ready(self, hosted: Hosted) -> bool:
        assert hosted.alive, hosted.output
        return "services ready" in hosted.output

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
        for hosted in self.hosted:
            hosted.kill()
        for close in self._closers:
            close()


@pytest.fixture(scope="module")
def make_site(_vhosts: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Site]]:
    """`make_site()`: a virtual host of its own; its processes and clients are gone after the module's last test."""
    sites: list[tuple[str, Site]] = []

    def make() -> Site:
        vhost = f"nameko_test_{uuid.uuid4().hex[:10]}"
        _vhosts.create(vhost)
        site = Site(f"pyamqp://guest:guest@{RABBITMQ}/{vhost}", tmp_path_factory.mktemp("site"))
        sites.append((vhost, site))
        return site

    yield make
    for vhost, site in sites:
        site.close()
        _vhosts.delete(vhost)


@pytest.fixture(scope="module")
def site(make_site: Callable[[], Site]) -> Site:
    return make_site()


@pytest.fixture(scope="module")
def subject(site: Site) -> Hosted:
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
