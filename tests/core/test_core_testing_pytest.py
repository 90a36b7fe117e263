"""The pytest plugin, as a project uses it that has nameko installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nameko import config
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.testing.services import dummy, entrypoint_hook

Run = Callable[..., Any]


class Service:
    name = "service"

    @dummy
    def method(self) -> str:
        return "result"


@pytest.fixture
def run_pytest(tmp_path: Path) -> Run:
    """Runs pytest on a file in a directory of its own."""

    def run(source: str, *options: str) -> Any:
        (tmp_path / "test_it.py").write_text(source)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        # Not under coverage either, which itself imports greenlet.
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV"))}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, tmp_path / "test_it.py"],
            capture_output=True,
            text=True,
            timeout=50,
            cwd=tmp_path,
            env=env,
            check=False,
        )

    return run


def test_it_is_inert_until_it_is_used(run_pytest):
    """Our plugins are loaded in every project of the environment: they must cost nothing there, and change nothing."""
    done = run_pytest(
        "import sys\n"
        "def test_inert():\n"
        "    heavy = {'eventlet', 'greenlet', 'kombu', 'amqp', 'werkzeug', 'requests', 'nameko.concurrency',\n"
        "             'nameko.containers', 'nameko.config', 'nameko.extensions'}\n"
        "    assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "    assert 'nameko.testing.pytest' in sys.modules\n"
        "    import socket, _socket\n"
        "    assert socket.socket.__base__ is _socket.socket\n"
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""


def test_the_options_of_old_are_accepted(run_pytest):
    done = run_pytest(
        "import time\n"
        "def test_blocking(container_factory):\n"
        "    from nameko.concurrency import spawn_task\n"
        "    def block():\n"
        "        deadline = time.monotonic() + 3\n"
        "        while time.monotonic() < deadline: pass\n"
        "    spawn_task(block).wait()\n",
        "--blocking-detection",
        "--suppress-nameko-eventlet-notification",
    )
    assert "Blocking detector ALARMED" in done.stdout, done.stdout
    assert done.returncode != 0


def test_the_fixtures_are_listed_with_what_they_do(run_pytest):
    done = run_pytest("", "--fixtures")
    for name in ("empty_config", "mock_container", "container_factory", "runner_factory", "predictable_call_ids"):
        assert re.search(rf"^{name} .*\n    \S", done.stdout, re.MULTILINE), name


def test_containers_are_killed_after_the_test_and_nothing_is_monkey_patched(run_pytest):
    done = run_pytest(
        "containers = []\n"
        "class Service:\n"
        "    name = 'service'\n"
        "def test_first(container_factory, runner_factory):\n"
        "    container = container_factory(Service, {})\n"
        "    container.start()\n"
        "    runner = runner_factory({}, Service)\n"
        "    runner.start()\n"
        "    containers.extend([container, *runner.containers])\n"
        "def test_second():\n"
        "    assert [each.started for each in containers] == [False, False]\n"
        "    from nameko.concurrency import is_monkey_patched\n"
        "    assert not is_monkey_patched()\n"
    )
    assert "2 passed" in done.stdout, done.stdout


# -- the fixtures themselves


def test_empty_config(empty_config):
    assert empty_config == {}
    assert dict(config) == {}


def test_mock_container(mock_container):
    assert isinstance(mock_container, ServiceContainer)
    assert mock_container.service_name == "mock_service"
    assert mock_container.config == {}
    bound = DependencyProvider().bind(mock_container, "name")
    assert bound.container.spawn_worker is mock_container.spawn_worker
    assert Entrypoint().bind(mock_container, "method").method_name == "method"
    with pytest.raises(TypeError):
        mock_container.spawn_worker()


def test_container_factory(container_factory):
    container = container_factory(Service, {"max_workers": 3})
    assert container.max_workers == 3
    with config.patch({"max_workers": 4}):
        assert container_factory(Service).max_workers == 4


def test_container_factory_makes_what_the_configuration_names(container_factory, monkeypatch):
    class Special(ServiceContainer):
        pass

    monkeypatch.setattr("nameko.containers.Special", Special, raising=False)
    assert type(container_factory(Service, {"SERVICE_CONTAINER_CLS": "nameko.containers.Special"})) is Special


def test_runner_factory(runner_factory):
    assert runner_factory({}, Service).service_names == ["service"]
    assert runner_factory({}).service_names == []
    assert runner_factory(Service).config is config
    assert runner_factory().config is config


def test_predictable_call_ids(predictable_call_ids, container_factory):
    container = container_factory(Service, {})
    container.start()
    seen = []
    with (
        container.observers.attached("test", worker_started=lambda worker_ctx: seen.append(worker_ctx.call_id)),
        entrypoint_hook(container, "method") as call,
    ):
        call()
        call()
        predictable_call_ids.side_effect = lambda: "x"
        call()
    assert seen == ["service.method.0", "service.method.1", "service.method.x"]


def test_fast_teardown_is_there_for_those_who_ask_for_it(fast_teardown):
    assert fast_teardown is None
