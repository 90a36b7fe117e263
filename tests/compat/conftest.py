"""Environments with earlier versions of the framework, and processes that run under them or under ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kombu
import pytest

from harness.frameworks import environment_with
from nameko import concurrency
from nameko.standalone.rpc import ClusterRpcProxy

MODULE_DIRECTORY = Path(__file__).parent / "interop"
START_TIMEOUT_S = 60
CALL_TIMEOUT_S = 20


@dataclass(frozen=True)
class Framework:
    """A framework in an environment of its own.

    :param version: of nameko
    :param bin: where its commands are
    :param config: `"argument"`, or `"global"` where standalone proxies take none
    """

    version: str
    bin: Path
    config: str = "argument"


def inherited_environ() -> dict[str, str]:
    """The environment variables of this process, without those that are about this process."""
    ours_only = ("PYTHONPATH", "COVERAGE", "COV_", "PYTEST")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours_only)}


@pytest.fixture(scope="session", params=["2.14.1", "3.0.0rc11"])
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Framework:
    """An earlier version, beside ours."""
    version: str = request.param
    commands = environment_with(version, request.config, tmp_path_factory)
    return Framework(version, commands, "global" if version.startswith("3") else "argument")


@pytest.fixture(scope="session")
def ours() -> Framework:
    """The framework that these tests belong to."""
    return Framework("ours", Path(sys.executable).parent)


@dataclass
class Network:
    """Processes of several frameworks on one virtual host of RabbitMQ.

    :param uri: the broker
    :param directory: where their log is
    """

    uri: str
    directory: Path
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _clients: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    _cluster: Any = None
    _cluster_proxy: Any = None

    def __post_init__(self) -> None:
        self._log = self.directory / "log"
        self._log.touch()
        self._config = self.directory / "config.yaml"
        self._config.write_text(json.dumps({"AMQP_URI": self.uri}))

    def _environ(self, framework: Framework, name: str = "client") -> dict[str, str]:
        settings = {"PEER_NAME": name, "PEER_LOG": str(self._log), "PEER_CONFIG": framework.config}
        return inherited_environ() | settings | {"PYTHONPATH": str(MODULE_DIRECTORY), "PYTHONWARNINGS": "ignore"}

    def start(self, framework: Framework, service: str, name: str = "client") -> None:
        """Run the service class `service` of the module `peers`, under the name `name` if it is a `Peer`."""
        command = [framework.bin / "nameko", "run", "--config", self._config, f"peers:{service}"]
        self.run(f"{name}-{service}", command, self._environ(framework, name))

    def run(self, name: str, command: Sequence[str | Path], environ: Mapping[str, str]) -> Path:
        """Run a process until the end of the tests; the file with what it prints."""
        path = self.directory / f"{name}-{len(self._processes)}.txt"
        with path.open("wb") as output:
            process = subprocess.Popen(
                command, cwd=self.directory, env=environ, stdout=output, stderr=subprocess.STDOUT
            )
        self._processes.append(process)
        return path

    def do(self, framework: Framework, **task: Any) -> Any:
        """Do a task from outside of any service, under `framework`; what came out."""
        client = self._clients.get(framework.version) or self._start_client(framework)
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(f"{json.dumps(task)}\n")
        client.stdin.flush()
        outcome = concurrency.run_in_native_thread(client.stdout.readline)
        assert outcome, self.output()
        return json.loads(outcome)

    def _start_client(self, framework: Framework) -> subprocess.Popen[str]:
        with (self.directory / f"client-{framework.version}.txt").open("wb") as output:
            client = self._clients[framework.version] = subprocess.Popen(
                [framework.bin / "python", "-c", "import peers; peers.main()", self.uri],
                cwd=self.directory,
                env=self._environ(framework),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        return client

    def ask(self, service: str, method: str, *args: Any) -> Any:
        """Call a method of a service, from this process."""
        return self.method(service, method)(*args)

    def method(self, service: str, method: str) -> Any:
        """A method of a service, to be called from this process."""
        if self._cluster is None:
            self._cluster_proxy = ClusterRpcProxy({"AMQP_URI": self.uri}, timeout=CALL_TIMEOUT_S)
            self._cluster = self._cluster_proxy.start()
        return self._cluster[service][method]

    def log(self, *starting_with: object) -> list[list[str]]:
        """What the processes wrote: lines, split at blanks, that start with the given words."""
        words = [str(word) for word in starting_with]
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [line for line in lines if line[: len(words)] == words]

    def consumers(self, queue: str) -> int:
        """How many consumers a queue has; 0 as well when there is no such queue."""
        with kombu.Connection(self.uri) as connection:
            try:
                return int(connection.default_channel.queue_declare(queue, passive=True).consumer_count)
            except connection.channel_errors:
                return 0

    def wait_for_consumers(self, queue: str, count: int = 1) -> None:
        """Wait until `queue` has that many consumers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while self.consumers(queue) < count:
            self.check_alive()
            assert time.monotonic() < deadline, f"{queue}: not {count} consumers\n{self.output()}"
            concurrency.sleep(0.1)

    def output(self) -> str:
        """What the processes printed."""
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.directory.glob("*.txt")))

    def check_alive(self) -> None:
        """Fail when a process has ended."""
        assert all(process.poll() is None for process in self._processes), self.output()

    def close(self) -> None:
        """Have all processes gone."""
        if self._cluster is not None:
            self._cluster_proxy.stop()
        for client in self._clients.values():
            client.communicate()  # the end of its tasks is the end of it
        for process in self._processes:
            process.kill()
        for process in self._processes:
            concurrency.run_in_native_thread(process.wait)


@pytest.fixture
def clean_environ() -> dict[str, str]:
    """The environment variables of this process, without those that are about this process."""
    return inherited_environ()


@pytest.fixture(scope="module")
def make_network(
    make_rabbitmq_uri: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Network]]:
    """`make_network()`: a virtual host of its own."""
    networks: list[Network] = []

    def make() -> Network:
        networks.append(Network(make_rabbitmq_uri(), tmp_path_factory.mktemp("network")))
        return networks[-1]

    yield make
    for network in networks:
        network.close()
