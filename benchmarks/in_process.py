"""RPC over the broker within the process, and what hooks cost a worker; run as a script, it prints one line of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import timeit

from benchmarks.environments import HERE

_WORKERS = 2_000
_REPEATS = 9


def measure() -> dict[str, float]:
    """`calls_s`: RPC with 50 in flight; `unused_hook_us` and `observer_us`: of processor time a worker."""
    command = [sys.executable, "-m", "benchmarks.in_process"]
    answer = subprocess.run(command, check=True, cwd=HERE.parent, stdout=subprocess.PIPE, text=True, timeout=120)
    figures: dict[str, float] = json.loads(answer.stdout.splitlines()[-1])
    return figures


def _calls_s(seconds: float) -> float:
    from nameko import concurrency
    from nameko.containers import ServiceContainer
    from nameko.rpc import RpcProxy, rpc
    from nameko.testing.services import dummy, entrypoint_hook

    class Echo:
        name = "echo"

        @rpc
        def echo(self, value: str) -> str:
            return value

    class Driver:
        name = "driver"
        echo = RpcProxy("echo")

        @dummy
        def drive(self) -> float:
            ends_at, count = time.perf_counter() + seconds, 0

            def loop() -> None:
                nonlocal count
                while time.perf_counter() < ends_at:
                    self.echo.echo("x" * 100)
                    count += 1

            for thread in [concurrency.spawn(loop) for _ in range(50)]:
                thread.wait()
            return count / seconds

    containers = [ServiceContainer(cls, _config()) for cls in (Echo, Driver)]
    for container in containers:
        container.start()
    with entrypoint_hook(containers[1], "drive", timeout=60) as drive:
        drive()  # warm up
        rate = float(drive())
    for container in containers:
        container.stop()
    return rate


def _config() -> dict[str, object]:
    return {"AMQP_URI": "memory://localhost/", "plugins": {"only": ["amqp", "rpc", "events", "http", "timer"]}}


def _hooks_us() -> tuple[float, float]:
    from nameko.containers import ServiceContainer
    from nameko.testing.services import dummy

    class Idle:
        name = "idle"

        @dummy
        def work(self) -> None:
            pass

    container = ServiceContainer(Idle, _config())
    container.start()
    (entrypoint,) = container.entrypoints

    def worker_us() -> float:
        began = time.process_time()
        for _ in range(_WORKERS):
            container.spawn_worker(entrypoint, (), {})
        container._worker_pool.waitall()
        return (time.process_time() - began) / _WORKERS * 1e6

    def observe(**_: object) -> None:
        pass

    plain, observed = [], []
    for _ in range(_REPEATS):  # in turn, and the least of each, which is the one least disturbed
        plain.append(worker_us())
        with container.observers.attached("benchmark", worker_started=observe):
            observed.append(worker_us())
    container.stop()
    guards = timeit.repeat(
        "if observers.worker_started: pass", globals={"observers": container.observers}, number=10**6
    )
    return min(guards), min(observed) - min(plain)


if __name__ == "__main__":
    calls_s = _calls_s(3.0)
    unused_hook_us, observer_us = _hooks_us()
    print(json.dumps({"calls_s": calls_s, "unused_hook_us": unused_hook_us, "observer_us": observer_us}))
