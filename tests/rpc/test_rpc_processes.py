"""Services in several processes, and what happens to their requests when one of them dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nameko import concurrency
from nameko.standalone.rpc import ClusterRpcProxy

pytestmark = pytest.mark.rabbitmq

Eventually = Callable[..., Any]
Log = Callable[..., list[list[str]]]

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["rabbitmq"])
def broker_uri(rabbitmq_uri: str) -> str:
    return rabbitmq_uri


@pytest.fixture
def cluster(rabbitmq_uri: str) -> Iterator[Any]:
    with ClusterRpcProxy({"AMQP_URI": rabbitmq_uri}, timeout=20) as proxy:
        yield proxy


WHO = """
class Who:
    name = "who"

    @rpc
    def am_i(self):
        return os.getpid()
"""


def test_requests_go_round_the_instances(service_process: Any, cluster: Any) -> None:
    pids = [service_process(WHO).pid for _ in range(3)]
    answers = [cluster.who.am_i() for _ in range(30)]
    assert Counter(answers) == dict.fromkeys(pids, 10)


SLOW = """
class Slow:
    name = "slow"

    @rpc
    def work(self, number):
        log("begun", number)
        concurrency.sleep(0.1)
        log("done", number)
        return number
"""

STUCK = SLOW.replace("sleep(0.1)", "sleep(3600)")


def test_request_of_a_process_that_is_killed_in_the_middle_goes_to_another(
    service_process: Any, cluster: Any, log: Log, eventually: Eventually
) -> None:
    stuck = service_process(STUCK)
    call = cluster.slow.work.call_async(7)
    eventually(lambda: log("begun", "7"))
    stuck.kill()
    other = service_process(SLOW)
    assert call.result() == 7
    assert [line[-1] for line in log("begun", "7")] == [str(stuck.pid), str(other.pid)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_every_call_is_answered_although_a_process_dies(
    how: signal.Signals, service_process: Any, cluster: Any, log: Log, eventually: Eventually
) -> None:
    first, second = service_process(SLOW), service_process(SLOW)
    calls = [cluster.slow.work.call_async(number) for number in range(60)]
    eventually(lambda: [line for line in log("done") if line[-1] == str(first.pid)])
    first.send_signal(how)
    assert [call.result() for call in calls] == list(range(60))
    times = Counter(line[1] for line in log("done"))
    twice = [number for number, count in times.items() if count > 1]
    if how == signal.SIGTERM:
        assert twice == []
        assert first.wait() == 0
    assert len(twice) <= 10  # the prefetch count
    assert second.status is None


def test_poison_takes_no_process_down(service_process: Any, cluster: Any, raw: Any) -> None:
    processes = [service_process(WHO), service_process(WHO)]
    for _ in range(4):
        raw.send(json.dumps({"args": [], "kwargs": {}}), "who.am_i")
        raw.send("{", "who.am_i", reply_to="who.am_i")
        raw.send('{"args": [], "kwargs": {}}', "who.am_i", reply_to="x", headers={"nameko.call_id_stack": [1]})
    assert {cluster.who.am_i() for _ in range(10)} == {process.pid for process in processes}
    assert [process.status for process in processes] == [None, None]


# -- the examples


@pytest.fixture
def run_services(rabbitmq_uri: str, tmp_path: Path, eventually: Eventually) -> Iterator[Callable[[str], None]]:
    """`run_services(module)` hosts a module with `nameko run`, until the end of the test."""
    processes: list[subprocess.Popen[bytes]] = []

    def run(module: str) -> None:
        command = [sys.executable, "-m", "nameko", "run", module, "--broker", rabbitmq_uri]
        with (tmp_path / f"{module}.log").open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        processes.append(process)

    yield run
    for process in processes:
        process.terminate()
    for process in processes:
        concurrency.run_in_native_thread(process.wait, 20)
    assert [process.returncode for process in processes] == [0] * len(processes)


def test_examples(run_services: Callable[[str], None], rabbitmq_uri: str, eventually: Eventually, connect: Any) -> None:
    run_services("examples.rpc_services")
    channel = connect().default_channel

    def consumed(queue: str) -> bool:
        return bool(channel.queue_declare(queue, durable=True, auto_delete=False).consumer_count)

    eventually(lambda: consumed("rpc-service_x") and consumed("rpc-service_y"), timeout_s=20)
    client = subprocess.Popen(
        [sys.executable, str(ROOT / "examples" / "rpc_client.py"), rabbitmq_uri],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _ = concurrency.run_in_native_thread(client.communicate, timeout=20)
    assert output.split() == ["hellø-x-y", "hello-x-y", "world-x-y"]
