"""One environment with extensions that others have published, over this framework, and processes that run in it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.missing import missing
from nameko import concurrency

ROOT = Path(__file__).parents[3]
SERVICES = Path(__file__).parent / "services"
INSTALL_TIMEOUT_S = 240
START_TIMEOUT_S = 120
SCRIPT_TIMEOUT_S = 180

EXTENSIONS = [
    "django-nameko",
    "flask-nameko",
    "nameko-amqp-retry",
    "nameko-atomicity",
    "nameko-cachetools",
    "nameko-cron",
    "nameko-grpc",
    "nameko-injector",
    "nameko-prometheus",
    "nameko-redis-py",
    "nameko-sentry",
    "nameko-slack",
    "nameko-sqlalchemy",
    "nameko-statsd",
    "nameko-structlog",
    "nameko-tracer",
]
#: What some need besides, as docs/migration.md says: nameko-amqp-retry imports pkg_resources, which went with 81.
BESIDES = ["setuptools<81"]
#: Makes Python of a .proto file.
TOOLS = ["grpcio-tools"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this directory is a test of published extensions, and has the time that installing takes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("published")
            item.add_marker(pytest.mark.timeout(INSTALL_TIMEOUT_S + START_TIMEOUT_S))


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with all of them, in which `nameko` is the workspace's."""
    uv = shutil.which("uv")
    if uv is None:
        missing("no uv to make an environment with")
    directory = tmp_path_factory.mktemp("published") / "environment"
    ours = [ROOT, ROOT / "core", *sorted((ROOT / "plugins").iterdir())]
    editable = [argument for path in ours for argument in ("--editable", str(path))]
    for command in (
        ["venv", "--python", sys.executable, directory],
        ["pip", "install", "--python", directory, *editable, *EXTENSIONS, *BESIDES, *TOOLS],
    ):
        done = subprocess.run([uv, *command], capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        if done.returncode:
            missing(f"no environment with published extensions: {done.stderr.strip()[-1000:]}")
    return directory / "bin"


@pytest.fixture(scope="session")
def run_python(environment: Path) -> Callable[..., str]:
    """`run_python(*arguments)`: runs the environment's Python to its end; what it prints."""

    def run(*arguments: str | Path, directory: Path = SERVICES) -> str:
        done = subprocess.run(
            [environment / "python", *arguments],
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{SERVICES}:{directory}"},
            capture_output=True,
            text=True,
            timeout=SCRIPT_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


class Host:
    """Runs services that use extensions, on a broker of their own, and tells what they have seen.

    :param network: the processes
    :param environment: where their commands are
    :param environ: their environment variables
    """

    def __init__(self, network: Any, environment: Path, environ: dict[str, str]) -> None:
        self._network = network
        self._environment = environment
        self._seen = network.directory / "seen"
        self._environ = {
            **environ,
            "AMQP_URI": network.uri,
            "SEEN": str(self._seen),
            "PYTHONPATH": str(SERVICES),
            "PYTHONUNBUFFERED": "1",
        }
        self.uri: str = network.uri
        self.directory: Path = network.directory
        self.ask: Callable[..., Any] = network.ask
        self.method: Callable[[str, str], Any] = network.method

    def serve(self, module: str, config: dict[str, Any] | None = None, **environ: str) -> Callable[[], str]:
        """Run the services of `module` until the end of the test, and wait until they are ready.

        :param config: configuration besides `AMQP_URI`
        :param environ: environment variables besides the usual ones
        :returns: gives what they have printed
        """
        path = self.directory / f"{module}.yaml"
        path.write_text(json.dumps({"AMQP_URI": self.uri, **(config or {})}))
        printed = self.run(module, "nameko", "run", "--config", path, module, **environ)
        self.wait_until(lambda: "services ready" in printed())
        return printed

    def run(self, name: str, command: str, *arguments: str | Path, **environ: str) -> Callable[[], str]:
        """Run one of the environment's commands until the end of the test; gives what it has printed."""
        environ = {**self._environ, **environ}
        environ["PYTHONPATH"] = ":".join([str(self.directory), environ["PYTHONPATH"]])
        return self._network.run(name, [self._environment / command, *arguments], environ).read_text

    def wait_until(self, condition: Callable[[], Any], timeout_s: float = START_TIMEOUT_S) -> Any:
        """What `condition()` gives as soon as that is true; fails when a process has ended, or it takes too long."""
        with concurrency.Timeout(timeout_s, AssertionError(f"not within {timeout_s} s")):
            while True:
                value = condition()
                if value:
                    return value
                self._network.check_alive()
                concurrency.sleep(0.02)

    def seen(self, what: str) -> list[dict[str, Any]]:
        """The details of what services have noted under this heading, in order."""
        lines = self._seen.read_text().splitlines() if self._seen.exists() else []
        notes = [json.loads(line) for line in lines]
        return [{key: value for key, value in each.items() if key != "what"} for each in notes if each["what"] == what]


@pytest.fixture
def host(make_network: Callable[[], Any], environment: Path, clean_environ: dict[str, str]) -> Iterator[Host]:
    """Processes on a virtual host of their own."""
    network = make_network()
    yield Host(network, environment, clean_environ)
    network.close()
