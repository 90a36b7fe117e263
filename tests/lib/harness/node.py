"""A RabbitMQ node of the tests' own, to be killed, suspended and restarted. Never the one on port 5672.

It has its own name, ports, folders and cookie. Before it is killed, the environment of the process is looked at: it
must be ours.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import amqp

from harness import procfs
from harness.management import Management

# Debian's commands on the PATH switch to the user `rabbitmq`; those in here run as whoever calls them.
_SERVER_PATH = f"/usr/lib/rabbitmq/bin{os.pathsep}{os.environ.get('PATH', '')}"
# A start takes 7 to 12 s on an idle machine.
START_TIMEOUT_S = 120
_CTL_TIMEOUT_S = 60
_END_TIMEOUT_S = 30

# Few threads, none of which waits busily: it shares the machine with what it is there for.
_ERLANG_ARGUMENTS = "+S 1:1 +sbwt none"
_CONFIGURATION = """
listeners.tcp.local = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management_port}
collect_statistics_interval = 500
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.relative = 0.9
"""


@dataclass(frozen=True)
class QueueCounts:
    """Of one queue."""

    ready: int
    unacked: int
    consumers: int


def why_no_node() -> str | None:
    """Why no node can be started here; None when one can."""
    if _executable("rabbitmq-server") is None:
        return "no rabbitmq-server is installed, and the fault tests need a RabbitMQ node of their own"
    return None


def _executable(name: str) -> str | None:
    return shutil.which(name, path=_SERVER_PATH)


class Node:
    """One node. The methods return when it is as they say.

    :param directory: for its data, its logs and its cookie
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name = f"nameko-faults-{os.getpid()}@localhost"
        self.port, self._distribution_port, self._management_port = _free_ports(3)
        self.management = Management(f"http://guest:guest@127.0.0.1:{self._management_port}", _CTL_TIMEOUT_S)
        self._pid_path = directory / "pid"
        self._script: subprocess.Popen[bytes] | None = None
        self._prepare()

    def _prepare(self) -> None:
        (self._directory / "home").mkdir()
        (self._directory / "enabled_plugins").write_text("[rabbitmq_management].")
        configuration = _CONFIGURATION.format(port=self.port, management_port=self._management_port)
        (self._directory / "rabbitmq.conf").write_text(configuration)
        self._environ = {
            **os.environ,
            "HOME": str(self._directory / "home"),  # the cookie is in there
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._directory / "log"),
            "RABBITMQ_PID_FILE": str(self._pid_path),
            "RABBITMQ_CONFIG_FILE": str(self._directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
        }

    # -- life

    @property
    def pid(self) -> int:
        """Of the Erlang machine, once it was made sure that it is ours.

        :raises AssertionError: when it does not run, or is somebody else's
        """
        pid = int(self._pid_path.read_text())
        name = procfs.environ(pid).get("RABBITMQ_NODENAME")
        assert name == self._name, f"process {pid} is not the node {self._name} but {name!r}"
        return pid

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        try:
            return self.pid > 0
        except (OSError, ValueError, AssertionError):
            return False

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._pid_path.unlink(missing_ok=True)
        with (self._directory / "output").open("ab") as output:
            self._script = subprocess.Popen(
                [str(_executable("rabbitmq-server"))],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until(self.accepts_connections, START_TIMEOUT_S)

    def accepts_connections(self) -> bool:
        """Whether something listens at its port."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """SIGKILL: whatever it has not written to disk is gone."""
        self._signal(signal.SIGKILL)
        self._wait_until(lambda: not self.running, _END_TIMEOUT_S)
        self._reap()

    def suspend(self) -> None:
        """SIGSTOP: it says nothing more, but its connections stay."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def heal(self) -> None:
        """Whatever was done to it: let it run, without alarms."""
        if self.running:
            self.resume()
        else:
            self._reap()
            self.start()

    def close(self) -> None:
        """Make sure that it is gone."""
        if self.running:
            self._signal(signal.SIGKILL)
        self._reap()

    def _signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def _reap(self) -> None:
        # The script that has started the node ends with it.
        if self._script is not None:
            try:
                self._script.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._script.kill()
                self._script.wait()
            self._script = None

    def _wait_until(self, condition: Any, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            ended = self._script is not None and self._script.poll() is not None
            assert not ended or condition(), f"the node has ended: {self._last_output()}"
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {self._last_output()}"
            time.sleep(0.05)

    def _last_output(self) -> str:
        return (self._directory / "output").read_text(errors="replace")[-2000:]

    @property
    def log_text(self) -> str:
        """What it has logged since its first start."""
        return "".join(path.read_text(errors="replace") for path in (self._directory / "log").glob("*.log"))

    # -- administration

    def ctl(self, *arguments: str) -> str:
        """`rabbitmqctl`, which takes a second; its output."""
        command = [str(_executable("rabbitmqctl")), "-q", "-n", self._name, *arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, timeout=_CTL_TIMEOUT_S)
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def uri(self, vhost: str, port: int | None = None, user: str = "guest", password: str = "guest") -> str:
        """For clients; through a proxy when its `port` is given."""
        return f"pyamqp://{user}:{password}@127.0.0.1:{port or self.port}/{quote(vhost, safe='')}"

    # -- what it knows

    def queues(self, vhost: str) -> dict[str, QueueCounts]:
        """The queues of a virtual host, as they are right now."""
        columns = ("name", "messages_ready", "messages_unacknowledged", "consumers")
        rows = json.loads(self.ctl("--formatter", "json", "list_queues", "-p", vhost, *columns))
        return {row["name"]: QueueCounts(*(row[column] for column in columns[1:])) for row in rows}

    def consumers(self, vhost: str, queue: str) -> int:
        """How many consumers a queue has right now; none while there is no such queue, or no broker to ask."""
        connection = amqp.Connection(f"127.0.0.1:{self.port}", "guest", "guest", virtual_host=vhost)
        try:
            connection.connect()
            return int(connection.channel().queue_declare(queue, passive=True).consumer_count)
        except (amqp.exceptions.AMQPError, OSError):
            return 0
        finally:
            connection.collect()


def _free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [listener.getsockname()[1] for listener in listeners]
    finally:
        for listener in listeners:
            listener.close()
