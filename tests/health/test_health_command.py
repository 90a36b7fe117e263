"""`nameko health`, and what it asks: processes that host services."""

from __future__ import annotations

import json
import os
import socket as plain_socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from nameko.concurrency import sleep, socket, spawn_task
from nameko.exceptions import TemporaryFailure
from nameko.health._asking import ask

SERVICE = """
    from nameko import concurrency
    from nameko.rpc import RpcProxy, rpc
    from nameko.timer import timer

    class Shop:
        name = "shop"

        @rpc
        def sell(self):
            return "sold"

        @timer(interval=0.1)
        def tick(self):
            print("tick", flush=True)
            concurrency.sleep(3600)
"""

PROBE = """
import json, sys
from nameko.cli.main import main
try:
    main()
finally:
    sys.stderr.write("\\n" + json.dumps(sorted(sys.modules)))
"""


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory for sockets of this test's processes."""
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    return directory


@pytest.fixture
def nameko_health(runtime: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`nameko_health(*arguments)` runs the command to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nameko", "health", *arguments]
        return subprocess.run(command, cwd=runtime, capture_output=True, text=True, timeout=40)

    return run


def test_a_busy_process_on_its_socket(host, nameko_health, eventually, broker_uri, runtime):
    def ready(*arguments):
        # On a machine that is overloaded, greenthreads may get their turn late, which it is not ready for either.
        return eventually(lambda: done if (done := nameko_health(*arguments)).returncode == 0 else None, timeout_s=40)

    hosted = host(SERVICE, AMQP_URI=broker_uri, HEALTH_SOCKET=True, max_workers=1)
    hosted.expect("tick")  # its only worker never ends
    hosted.expect("services ready")
    done = ready()
    assert (done.stdout, done.stderr) == ("shop: ready\n", "")
    done = nameko_health("--live", str(runtime / "nameko/health.sock"))
    assert (done.returncode, done.stdout) == (0, f"process {hosted.pid} is alive\n")
    done = ready("--json", f"unix:{runtime}/nameko/health.sock")
    assert json.loads(done.stdout) == {"ready": True, "pid": hosted.pid, "services": {"shop": []}}


@pytest.mark.rabbitmq
def test_a_broker_that_is_lost_and_found(host, nameko_health, eventually, proxy, tmp_path):
    config = {"AMQP_URI": proxy.uri, "HEALTH_ADDRESS": "127.0.0.1:0"}
    hosted = host(SERVICE, **config)
    address = hosted.find(r"HEALTH_ADDRESS: listening on (127\.0\.0\.1:\d+)/health")[1]
    hosted.expect("services ready")
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: nameko_health(address).returncode == 1, timeout_s=40)
    done = nameko_health(address)
    assert "shop: " in done.stdout
    assert "no consume connection to pyamqp://guest:********@" in done.stdout
    assert nameko_health("--live", address).returncode == 0
    proxy.refusing = False
    eventually(lambda: nameko_health(address).returncode == 0, timeout_s=40)


@pytest.mark.rabbitmq
def test_a_broker_that_is_away_at_the_start(host, nameko_health, eventually, proxy):
    proxy.refusing = True
    hosted = host(SERVICE, AMQP_URI=proxy.uri, HEALTH_ADDRESS="127.0.0.1:0", START_TIMEOUT=60)
    address = hosted.find(r"HEALTH_ADDRESS: listening on (127\.0\.0\.1:\d+)/health")[1]
    done = nameko_health(address)
    assert (done.returncode, "shop is starting" in done.stdout) == (1, True)
    assert nameko_health("--live", address).returncode == 0
    proxy.refusing = False
    eventually(lambda: nameko_health(address).returncode == 0, timeout_s=40)


def test_the_address_of_the_configuration(host, nameko_health, tmp_path):
    path, config = tmp_path / "own.sock", tmp_path / "config.json"
    host(SERVICE, HEALTH_SOCKET=str(path), HEALTH_PATH="/state").expect("services ready")
    config.write_text(
        json.dumps({"HEALTH_SOCKET": str(path), "HEALTH_ADDRESS": "127.0.0.1:1", "HEALTH_PATH": "/state"})
    )
    assert nameko_health("--config", str(config)).returncode == 0
    assert nameko_health("-d", f"HEALTH_ADDRESS=unix:{path}", "-d", "HEALTH_PATH=/state").returncode == 0


def test_several_processes(host, nameko_health, tmp_path):
    path = tmp_path / "health.sock"
    supervisor = host(SERVICE, "--workers", "2", HEALTH_SOCKET=str(path))
    for index in range(2):
        supervisor.expect(f"HEALTH_SOCKET: listening on unix:{path}{'.1' * index}/health")
    supervisor.find(r"(?s)services ready.*services ready")
    done = nameko_health("--workers", "2", "--json", str(path))
    assert done.returncode == 0
    assert len({json.loads(line)["pid"] for line in done.stdout.splitlines()}) == 2
    done = nameko_health("--workers", "3", str(path))
    assert (done.returncode, done.stdout) == (75, "shop: ready\nshop: ready\n")
    assert done.stderr.startswith(f"Error: no process answers at unix:{path}.2: ")


def test_no_process_answers(nameko_health, runtime):
    done = nameko_health()
    expected = f"Error: no process answers at unix:{runtime}/nameko/health.sock: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (75, "", expected)
    with plain_socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert nameko_health(str(port)).returncode == 75


def test_a_process_whose_greenthreads_do_not_get_their_turn(host, nameko_health, tmp_path):
    path = tmp_path / "health.sock"
    blocking = """
        from nameko import concurrency
        from nameko.timer import timer

        class Blocking:
            name = "blocking"

            @timer(interval=0.5)
            def tick(self):
                print("blocking", flush=True)
                concurrency.original("time").sleep(3600)
    """
    host(blocking, HEALTH_SOCKET=str(path)).find("^blocking|\nblocking\n")
    done = nameko_health("--live", "--timeout", "0.5", str(path))
    assert (done.returncode, done.stderr) == (75, f"Error: no process answers at unix:{path}: timed out\n")


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\n\r\nhello", b"HTTP/1.1 200 OK\r\n\r\n[]", b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}']
)
def test_something_else_answers(runtime, answer):
    path = runtime / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def reply() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

        replying = spawn_task(reply)
        with pytest.raises(TemporaryFailure) as raised:
            ask({}, str(path), "ready", timeout_s=20, workers=1, as_json=False)
        replying.wait()
    assert str(raised.value) == f"what answers at unix:{path}/health/ready is no nameko process with nameko-health"


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for(runtime):
    path = runtime / "slow.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def drip() -> None:
            connection, _ = other.accept()
            with connection, suppress(OSError):  # when the other side has had enough
                while True:
                    connection.sendall(b"x")
                    sleep(0.05)

        dripping = spawn_task(drip)
        with pytest.raises(TemporaryFailure, match="timed out"):
            ask({}, str(path), "ready", timeout_s=0.3, workers=1, as_json=False)
        dripping.wait()


def test_wrong_usage(nameko_health):
    done = nameko_health("nowhere")
    assert done.returncode == 2
    assert done.stderr == (
        "Error: TARGET must be `[host:]port` or `unix:/path`, not 'nowhere'; "
        "nor is there a Unix socket of that name. See `nameko health --help`.\n"
    )
    beyond = nameko_health("70000")
    assert beyond.returncode == 2
    assert "not '70000': ports end at 65535" in beyond.stderr
    assert nameko_health("65535", "--workers", "2").returncode == 2
    assert nameko_health("--timeout", "0").returncode == 2


def test_a_socket_by_its_name_alone(nameko_health, runtime):
    with plain_socket.socket(plain_socket.AF_UNIX) as other:
        other.bind(str(runtime / "health.sock"))  # nobody listens
        done = nameko_health("health.sock")
    assert done.returncode == 75
    assert done.stderr.startswith("Error: no process answers at unix:health.sock: ")


def test_it_is_light(runtime):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, "health"], env=environ, cwd=runtime, capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 75
    modules = set(json.loads(done.stderr.splitlines()[-1]))
    assert "nameko.health._asking" in modules
    heavy = {"eventlet", "greenlet", "kombu", "amqp", "werkzeug", "httptools", "prometheus_client", "yaml", "ssl"}
    assert not modules & heavy
