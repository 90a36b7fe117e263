"""Row 43: two services of ours and two of nameko 2.14 on one broker, under faults at random, for as long as asked.

`NAMEKO_CHAOS_S` is how long, in seconds; `NAMEKO_CHAOS_SEED` repeats the faults of a run. The seed of each run is
printed, and that of one that failed is kept in pytest's cache as well: `pytest --cache-show "faults/*"`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.checker import compare
from harness.frameworks import environment_with
from harness.journal import PATH_VARIABLE, Log
from harness.process import Process
from nameko import concurrency

DURATION_S = float(os.environ.get("NAMEKO_CHAOS_S", "60"))
# Starting, and what is left to do in the end.
MARGIN_S = 240

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(int(DURATION_S) + MARGIN_S)]

Eventually = Callable[..., Any]

OURS, OLD = ("ours_a", "ours_b"), ("old_a", "old_b")
HEARTBEAT_S = 4
TIMEOUT_S = 5.0  # of each call, see chaos_client.py
# Over its deadline: a second, and what a busy machine adds.
LATE_S = 3.0
# After each fault there are so many seconds in which everything has to be as it was.
RECOVERY_S = 60

SERVICES = Path(__file__).parent / "services"
LIBRARY = Path(__file__).parents[1] / "lib"

#: What may become of a call while broker, network and callee come and go. A proxy that is not of a service tells who
#: calls that there is no connection, rather than to have them wait until there is one.
OUTCOMES = {
    "right",
    "RpcTimeout",
    "ReplyLost",
    "ConnectionLost",
    # There was no broker to connect to, or one on its way up or down.
    "ConnectionError",
    "ConnectionResetError",
    "ConnectionRefusedError",
}


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> Iterator[random.Random]:
    seed = int(os.environ.get("NAMEKO_CHAOS_SEED") or random.randrange(2**32))
    print(f"NAMEKO_CHAOS_SEED={seed}")
    failed_before = request.session.testsfailed
    cache = getattr(request.config, "cache", None)  # there is none with `-p no:cacheprovider`
    kept = cache.get("faults/failed-seeds", []) if cache else []
    if cache:
        cache.set("faults/failed-seeds", [*kept, seed])
    yield random.Random(seed)
    if cache and request.session.testsfailed == failed_before:
        cache.set("faults/failed-seeds", kept)


class Cluster:
    """The processes, behind a network that can be broken.

    :param old_commands: where the commands of nameko 2.14 are
    """

    def __init__(self, directory: Path, uri: str, old_commands: Path) -> None:
        self._directory, self._uri, self._old_commands = directory, uri, old_commands
        self._started = 0
        self.log = Log(directory / "journal")
        self.peers: dict[str, Process] = {}
        self.client: Process | None = None
        #: How often a service had to be started again that nobody had ended.
        self.deaths: Counter[str] = Counter()
        (directory / "config.yaml").write_text(yaml.safe_dump({"AMQP_URI": uri, "HEARTBEAT": HEARTBEAT_S}))

    def start_peer(self, name: str) -> None:
        commands = self._old_commands if name in OLD else Path(sys.executable).parent
        command = [str(commands / "nameko"), "run", "--config", "config.yaml", "chaos_peer"]
        self.peers[name] = self._start(command, name)

    def start_client(self) -> None:
        self.client = self._start([sys.executable, str(SERVICES / "chaos_client.py"), self._uri, *OURS, *OLD], "client")

    def _start(self, command: list[str], name: str) -> Process:
        self._started += 1
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("COV", "PYTEST"))}
        environ = {
            **kept,
            PATH_VARIABLE: str(self.log.path),
            "PYTHONPATH": f"{LIBRARY}{os.pathsep}{SERVICES}",
            "PYTHONWARNINGS": "ignore",
            "CHAOS_NAME": name,
        }
        return Process(command, self._directory, environ, self._directory / f"{name}-{self._started}.txt")

    def restart_dead(self) -> None:
        """Start those again that have ended by themselves."""
        for name, process in list(self.peers.items()):
            if process.status is not None:
                self.deaths[name] += 1
                self.start_peer(name)

    def restart(self, name: str) -> None:
        self.peers[name].close()
        self.start_peer(name)

    def close(self) -> None:
        for process in [*self.peers.values(), *([self.client] if self.client else [])]:
            process.close()


class Faults:
    """Breaks something, and mends it."""

    def __init__(self, dice: random.Random, cluster: Cluster, node: Any, proxy: Any) -> None:
        self._dice, self._cluster, self._node, self._proxy = dice, cluster, node, proxy
        self.struck: Counter[str] = Counter()

    def strike(self) -> None:
        """Whichever comes; returns when what was broken is mended."""
        kinds = ["reset", "reset", "resets", "blackhole", "kill_broker", "sigterm", "sigkill", "sigstop"]
        kind = self._dice.choice(kinds)
        getattr(self, f"_{kind}")()
        self.struck[kind] += 1

    def _victim(self) -> str:
        return self._dice.choice([*OURS, *OURS, *OLD])

    def _reset(self) -> None:
        assert self._proxy.reset() > 0

    def _resets(self) -> None:
        for _ in range(5):
            self._proxy.reset()
            concurrency.sleep(self._dice.uniform(0.1, 0.8))

    def _blackhole(self) -> None:
        self._proxy.blackhole(up=self._dice.random() < 0.8, down=self._dice.random() < 0.8)
        concurrency.sleep(self._dice.uniform(1, 3 * HEARTBEAT_S))
        self._proxy.heal()

    def _kill_broker(self) -> None:
        self._node.kill()
        concurrency.sleep(self._dice.uniform(0, 3))
        self._node.start()

    def _sigterm(self) -> None:
        name = self._victim()
        process = self._cluster.peers[name]
        process.send_signal(signal.SIGTERM)
        status = wait_for_end(process)
        assert name in OLD or status == 0, process.output
        self._cluster.restart(name)

    def _sigkill(self) -> None:
        name = self._victim()
        self._cluster.peers[name].kill()
        wait_for_end(self._cluster.peers[name])
        self._cluster.restart(name)

    def _sigstop(self) -> None:
        process = self._cluster.peers[self._victim()]
        process.send_signal(signal.SIGSTOP)
        concurrency.sleep(self._dice.uniform(1, 3 * HEARTBEAT_S))
        process.send_signal(signal.SIGCONT)


def wait_for_end(process: Process) -> int:
    try:
        return int(concurrency.run_in_native_thread(process.wait, 40))
    except Exception:  # nameko 2.14 can hang
        process.kill()
        return int(concurrency.run_in_native_thread(process.wait, 10))


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, proxy_uri: str
) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path, proxy_uri, environment_with("2.14.1", request.config, tmp_path_factory))
    yield cluster
    cluster.close()


def test_row_43_nothing_of_ours_is_lost(
    cluster: Cluster, dice: random.Random, node: Any, vhost: str, proxy: Any, eventually: Eventually
) -> None:
    for name in (*OURS, *OLD):
        cluster.start_peer(name)
    eventually(lambda: all(node.consumers(vhost, queue) == 1 for queue in queues(*OURS, *OLD)), timeout_s=RECOVERY_S)
    cluster.start_client()
    faults = Faults(dice, cluster, node, proxy)
    ends_at = time.monotonic() + DURATION_S
    while time.monotonic() < ends_at:
        concurrency.sleep(dice.uniform(0.5, 3))
        faults.strike()
        cluster.restart_dead()
        eventually(lambda: all(node.consumers(vhost, queue) >= 1 for queue in queues(*OURS)), timeout_s=RECOVERY_S)
    finish(cluster, node, vhost, eventually)
    print(f"faults: {dict(faults.struck)}; ended by themselves: {dict(cluster.deaths)}")
    assert sum(faults.struck.values()) > 0
    assert [name for name in OURS if cluster.deaths[name]] == []
    check_events(cluster.log)
    check_calls(cluster.log)


def queues(*names: str) -> list[str]:
    """Those of the services with these names."""
    return [queue for name in names for queue in (f"rpc-{name}", f"evt-chaos-happened--{name}.handle")]


def finish(cluster: Cluster, node: Any, vhost: str, eventually: Eventually) -> None:
    """Let the client end, the services work off what is left, and end ours."""
    assert cluster.client is not None
    cluster.client.send_signal(signal.SIGTERM)
    assert wait_for_end(cluster.client) == 0, cluster.client.output

    def all_done() -> bool:
        counts = node.queues(vhost)
        return all(counts[queue].ready == counts[queue].unacked == 0 for queue in queues(*OURS))

    eventually(all_done, timeout_s=RECOVERY_S, interval_s=1)
    for name in OURS:
        cluster.peers[name].send_signal(signal.SIGTERM)
        assert wait_for_end(cluster.peers[name]) == 0, cluster.peers[name].output


def check_events(log: Log) -> None:
    sent, confirmed = ([line[1] for line in log(word)] for word in ("sending", "confirmed"))
    assert len(confirmed) > 0
    for name in OURS:
        verdict = compare(sent, confirmed, [line[2] for line in log("effect", name)])
        print(f"{name}: {len(confirmed)} of {len(sent)} events confirmed, {verdict.duplicates} duplicates")
        assert verdict.clean, verdict


def check_calls(log: Log) -> None:
    made = {line[1]: line[2] for line in log("call") if line[2] in OURS}
    outcomes = [line for line in log("outcome") if line[1] in made]
    print(f"calls of ours: {dict(Counter(line[2] for line in outcomes))}")
    assert Counter(line[1] for line in outcomes) == dict.fromkeys(made, 1)
    assert [line for line in outcomes if line[2] not in OUTCOMES] == []
    assert max(float(line[3]) for line in outcomes) <= TIMEOUT_S + LATE_S
    assert any(line[2] == "right" for line in outcomes)
