"""Pytest plugin of the core: fixtures for containers and runners.

Inert until a test asks for one of its fixtures: only then are nameko and the concurrency library imported. It never
monkey patches: do that in a `conftest.py`, or run the tests with `nameko test`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, create_autospec, patch

import pytest

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.runners import ServiceRunner


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of nameko 2.14's plugin."""
    group = parser.getgroup("nameko")
    group.addoption(
        "--blocking-detection",
        action="store_true",
        dest="blocking_detection",
        help="raise an error in whatever keeps all greenthreads from running for a second",
    )
    group.addoption(
        "--suppress-nameko-eventlet-notification",
        action="store_true",
        dest="suppress_nameko_eventlet_notification",
        help="without effect: there is no such notification",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Do what the options say."""
    if config.getoption("blocking_detection"):
        from nameko.concurrency import detect_blocking

        detect_blocking()


@pytest.fixture
def empty_config() -> Iterator[dict[str, Any]]:
    """An empty configuration; `nameko.config` is empty too while the test runs."""
    from nameko.config import config

    with config.patch({}, clear=True):
        yield {}


@pytest.fixture
def mock_container(empty_config: dict[str, Any]) -> Any:
    """A mock of a container, to which extensions can be bound."""
    from nameko import serialization
    from nameko.constants import DEFAULT_MAX_WORKERS, DEFAULT_PARENT_CALLS_TRACKED
    from nameko.containers import ServiceContainer
    from nameko.observers import Observers

    container = create_autospec(ServiceContainer, instance=True)
    container.config = empty_config
    container.serializer, container.accept = serialization.setup(empty_config)
    container.service_name = "mock_service"
    container.service_cls = type("MockService", (), {"name": "mock_service"})
    container.max_workers = DEFAULT_MAX_WORKERS
    container.parent_calls_tracked = DEFAULT_PARENT_CALLS_TRACKED
    container.observers = Observers()
    container.shared_extensions = {}
    container.interface = container
    return container


@pytest.fixture
def container_factory() -> Iterator[Callable[..., ServiceContainer]]:
    """`container_factory(service_cls, config=None)` makes a container, which is killed after the test."""
    from nameko.containers import get_container_cls

    containers: list[ServiceContainer] = []

    def make_container(service_cls: type, config: dict[str, Any] | None = None) -> ServiceContainer:
        container = get_container_cls(config)(service_cls, config)
        containers.append(container)
        return container

    yield make_container
    for container in containers:
        container.kill()


@pytest.fixture
def runner_factory() -> Iterator[Callable[..., ServiceRunner]]:
    """`runner_factory(config, *service_classes)` makes a runner, whose services are killed after the test.

    The configuration may be left out: `runner_factory(*service_classes)`.
    """
    from nameko.runners import ServiceRunner

    runners: list[ServiceRunner] = []

    def make_runner(*args: Any) -> ServiceRunner:
        has_config = bool(args) and not isinstance(args[0], type)
        runner = ServiceRunner(args[0] if has_config else None)
        for service_cls in args[has_config:]:
            runner.add_service(service_cls)
        runners.append(runner)
        return runner

    yield make_runner
    for runner in runners:
        runner.kill()


@pytest.fixture
def predictable_call_ids() -> Iterator[MagicMock]:
    """Call ids end in a number in place of a UUID: `service.method.0`, `service.method.1`, ...

    Yields the mock that makes them, of which `side_effect` can be changed.
    """
    import sys

    from nameko import containers

    new_call_id = MagicMock(side_effect=map(str, count()))
    with ExitStack() as stack:
        for module in ("nameko._worker_context", containers.__name__, "nameko.standalone.rpc"):
            if hasattr(sys.modules.get(module), "new_call_id"):
                stack.enter_context(patch(f"{module}.new_call_id", new_call_id))
        yield new_call_id


@pytest.fixture
def fast_teardown() -> None:
    """Nothing: containers end at once when they are killed. nameko 2.14 has a fixture of this name."""
