"""How soon a service that is started with `nameko run` answers, and what it takes while it idles, beside 2.14.1."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.broker import delete_queues
from benchmarks.environments import python_of, users_python
from benchmarks.figures import OLD, OURS
from benchmarks.processes import cpu_s, resident_mib
from nameko.exceptions import RpcTimeout, UnknownService
from nameko.standalone.rpc import ClusterRpcProxy

_SERVICE = """
from nameko.rpc import rpc

class Echo:
    name = "echo"

    @rpc
    def echo(self, value):
        return value
"""
_CONFIG = """
AMQP_URI: {uri}
plugins: {{only: [amqp, rpc, events, http, timer]}}
"""
_TIMEOUT_S = 60
_IDLE_S = 1.0


def measure(uri: str, rounds: int) -> dict[str, dict[str, float]]:
    """Medians by peer: `answer_s` from start to first answer, `cpu_s` until then, `idle_mib` a second later."""
    runs: dict[str, list[dict[str, float]]] = {OURS: [], OLD: []}
    with tempfile.TemporaryDirectory() as folder, users_python() as ours:
        Path(folder, "echo_service.py").write_text(_SERVICE)
        Path(folder, "config.yaml").write_text(_CONFIG.format(uri=uri))
        pythons = {OURS: ours, OLD: python_of(OLD)}
        for _ in range(rounds):
            for peer, python in pythons.items():
                runs[peer].append(_measure_once(python.with_name("nameko"), folder, uri))
    return {peer: {name: statistics.median(each[name] for each in of) for name in of[0]} for peer, of in runs.items()}


def _measure_once(nameko: Path, folder: str, uri: str) -> dict[str, float]:
    delete_queues(uri)
    with ClusterRpcProxy({"AMQP_URI": uri}, timeout=_TIMEOUT_S) as cluster:
        started_at = time.monotonic()
        with _service(nameko, folder) as pid:
            _wait_for_answer(cluster)
            answer_s, used_s = time.monotonic() - started_at, cpu_s(pid)
            time.sleep(_IDLE_S)
            return {"answer_s": answer_s, "cpu_s": used_s, "idle_mib": resident_mib(pid)}


@contextmanager
def _service(nameko: Path, folder: str) -> Iterator[int]:
    command = [nameko, "run", "--config", "config.yaml", "echo_service"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def _wait_for_answer(cluster: ClusterRpcProxy) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            cluster.echo.echo("x")  # type: ignore[attr-defined]
        except UnknownService:
            if time.monotonic() > deadline:
                raise RpcTimeout("the service was not there in time") from None
            time.sleep(0.005)
        else:
            return
