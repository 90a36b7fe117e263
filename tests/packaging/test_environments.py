"""Only what you need: each distribution in an environment of its own, running its own service through `nameko run`."""

from __future__ import annotations

import socket
import subprocess
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

START_TIMEOUT_S = 20

# Each service leaves `done.txt` with the word "done" when its entrypoint has run.
CORE = """
    from pathlib import Path
    from nameko.extensions import Entrypoint

    class Once(Entrypoint):
        def start(self):
            self.container.spawn_worker(self, (), {})

    class Service:
        name = "service"

        @Once.decorator
        def run(self):
            Path("done.txt").write_text("done")
"""

TIMER = """
    from pathlib import Path
    from nameko.timer import timer

    class Service:
        name = "service"

        @timer(interval=0.1)
        def run(self):
            Path("done.txt").write_text("done")
"""

HTTP = """
    from pathlib import Path
    from nameko.web.handlers import http

    class Service:
        name = "service"

        @http("GET", "/run/<word>")
        def run(self, request, word):
            Path("done.txt").write_text(word)
            return f"it is {word}"
"""

# A call to the service itself, through the broker in its own process, made as soon as everything has started.
RPC = """
    from pathlib import Path
    from nameko.extensions import Entrypoint
    from nameko.rpc import RpcProxy, rpc

    class Once(Entrypoint):
        def start(self):
            self.container.spawn_worker(self, (), {})

    class Service:
        name = "service"
        itself = RpcProxy("service")

        @rpc
        def word(self, ending):
            return "do" + ending

        @Once.decorator
        def run(self):
            Path("done.txt").write_text(self.itself.word("ne"))
"""

EVENTS = """
    from pathlib import Path
    from nameko.events import EventDispatcher, event_handler
    from nameko.extensions import Entrypoint

    class Once(Entrypoint):
        def start(self):
            self.container.spawn_worker(self, (), {})

    class Service:
        name = "service"
        dispatch = EventDispatcher()

        @Once.decorator
        def say(self):
            self.dispatch("said", "done")

        @event_handler("service", "said")
        def run(self, word):
            Path("done.txt").write_text(word)
"""

ALL = """
    from pathlib import Path
    from nameko.events import EventDispatcher, event_handler
    from nameko.rpc import RpcProxy, rpc
    from nameko.timer import timer
    from nameko.web.handlers import http

    class Service:
        name = "service"
        itself = RpcProxy("service")
        dispatch = EventDispatcher()

        @timer(interval=0.1)
        def tick(self):
            self.itself.word("ne")

        @rpc
        def word(self, ending):
            self.dispatch("said", "do" + ending)

        @event_handler("service", "said")
        def run(self, word):
            Path("done.txt").write_text(word)

        @http("GET", "/run/<word>")
        def web(self, request, word):
            return f"it is {word}"
"""


def installation(name: str, service: str, unwanted: set[str], missing: tuple[str, str] | None) -> Any:
    return pytest.param(name, service, unwanted, missing, id=name)


#: What is installed, what it runs, what must not have come along, and a module that is missing with its distribution.
AMQP_LIBRARIES = {"amqp", "kombu", "nameko-amqp"}
INSTALLATIONS = [
    installation("nameko-core", CORE, {*AMQP_LIBRARIES, "werkzeug"}, ("nameko.timer", "nameko-timer")),
    installation("nameko-timer", TIMER, {*AMQP_LIBRARIES, "werkzeug"}, ("nameko.web.handlers", "nameko-http")),
    installation("nameko-http", HTTP, {*AMQP_LIBRARIES, "nameko-timer"}, ("nameko.rpc", "nameko-rpc")),
    installation("nameko-health", CORE, {*AMQP_LIBRARIES, "werkzeug"}, ("nameko.timer", "nameko-timer")),
    installation("nameko-metrics", CORE, {*AMQP_LIBRARIES, "werkzeug"}, ("nameko.timer", "nameko-timer")),
    installation("nameko-rpc", RPC, {"werkzeug", "nameko-events"}, ("nameko.events", "nameko-events")),
    installation("nameko-events", EVENTS, {"werkzeug", "nameko-rpc"}, ("nameko.standalone.rpc", "nameko-rpc")),
    installation("nameko-amqp", CORE, {"werkzeug", "nameko-rpc"}, ("nameko.rpc", "nameko-rpc")),
    installation(
        "nameko-tracing", CORE, {*AMQP_LIBRARIES, "werkzeug", "opentelemetry-sdk"}, ("nameko.rpc", "nameko-rpc")
    ),
    installation("nameko", ALL, {"nameko-tracing", "opentelemetry-api"}, None),
]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def run_service(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`run_service(environment, source, *options)`: runs the service with `nameko run`; the file that it prints to."""
    running: list[subprocess.Popen[bytes]] = []

    def run(environment: Any, source: str, *options: str) -> Path:
        (tmp_path / "service.py").write_text(textwrap.dedent(source))
        output = tmp_path / "output.txt"
        running.append(environment.start("nameko", "run", "service", *options, cwd=tmp_path, output=output))
        return output

    yield run
    for process in running:
        process.terminate()
    assert [process.wait(timeout=20) for process in running] == [0] * len(running)


def wait_for(condition: Callable[[], str], expected: str, output: Path) -> None:
    """Wait until `condition()` is what is expected; an OSError, of a file or page not there yet, is not."""
    deadline = time.monotonic() + START_TIMEOUT_S
    found: object = None
    while time.monotonic() < deadline:
        try:
            found = condition()
        except OSError as exc:
            found = exc
        if found == expected:
            return
        time.sleep(0.05)
    pytest.fail(f"not {expected!r} but {found!r}; the service printed\n{output.read_text()}")


def read_page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return str(response.read().decode())


@pytest.mark.parametrize(("name", "service", "unwanted", "missing"), INSTALLATIONS)
def test_distribution_runs_its_service_alone(
    make_environment: Callable[..., Any],
    run_service: Callable[..., Path],
    free_port: int,
    tmp_path: Path,
    name: str,
    service: str,
    unwanted: set[str],
    missing: tuple[str, str] | None,
) -> None:
    environment = make_environment(name)
    assert environment.distributions & unwanted == set()

    options = ["-d", f"WEB_SERVER_ADDRESS=127.0.0.1:{free_port}"] if name in ("nameko", "nameko-http") else []
    output = run_service(environment, service, *options)

    if options:
        wait_for(lambda: read_page(f"http://127.0.0.1:{free_port}/run/done"), "it is done", output)
    wait_for((tmp_path / "done.txt").read_text, "done", output)
    assert "starting services: service" in output.read_text()


@pytest.mark.parametrize(("name", "service", "unwanted", "missing"), INSTALLATIONS[:-1])
def test_missing_extension_is_named_with_its_distribution(
    make_environment: Callable[..., Any],
    tmp_path: Path,
    name: str,
    service: str,
    unwanted: set[str],
    missing: tuple[str, str],
) -> None:
    module, distribution = missing
    (tmp_path / "incomplete.py").write_text(f"import {module}\n")
    completed = make_environment(name).run("nameko", "run", "incomplete", cwd=tmp_path, check=False)
    assert completed.returncode != 0
    assert f"is provided by {distribution}: pip install {distribution}" in completed.stderr
    assert len(completed.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(("name", "service", "unwanted", "missing"), INSTALLATIONS)
def test_plugins_lists_what_is_installed(
    make_environment: Callable[..., Any],
    tmp_path: Path,
    name: str,
    service: str,
    unwanted: set[str],
    missing: tuple[str, str] | None,
) -> None:
    environment = make_environment(name)
    listed = environment.run("nameko", "plugins", cwd=tmp_path).stdout
    plugins = {"nameko-amqp", "nameko-events", "nameko-http", "nameko-rpc", "nameko-timer", "nameko-tracing"}
    assert {each for each in plugins if each in listed} == plugins & environment.distributions


def test_pytest_has_nothing_to_complain_of(make_environment: Callable[..., Any], tmp_path: Path) -> None:
    environment = make_environment("nameko", "pytest")
    (tmp_path / "test_nothing.py").write_text("def test_nothing(container_factory, memory_config):\n    pass\n")
    completed = environment.run("pytest", "-q", "-W", "error", "test_nothing.py", cwd=tmp_path, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert "1 passed" in completed.stdout


def test_type_checkers_see_the_types(make_environment: Callable[..., Any], tmp_path: Path) -> None:
    environment = make_environment("nameko", "mypy")
    (tmp_path / "typed.py").write_text(
        "from nameko.containers import ServiceContainer\n"
        "from nameko.events import event_handler\n"
        "from nameko.rpc import RpcProxy\n"
        "from nameko.timer import timer\n"
        "from nameko.web.handlers import http\n"
        "reveal_type(ServiceContainer.stop)\n"
    )
    completed = environment.run("mypy", "--strict", "typed.py", cwd=tmp_path, check=False)
    assert "def (self: nameko.containers.ServiceContainer)" in completed.stdout
    assert completed.returncode == 0, completed.stdout
