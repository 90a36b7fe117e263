"""Hosting several services in one process."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from logging import getLogger
from typing import Any

from nameko.concurrency import Queue, SpawningProxy, spawn_task
from nameko.config import config as global_config
from nameko.containers import ServiceContainer, get_container_cls, get_service_name

_log = getLogger(__name__)


class ServiceRunner:
    """Starts, stops and watches the containers of one process.

    :param config: configuration keys for all services; the process-wide `nameko.config` when not given
    """

    def __init__(self, config: MutableMapping[str, Any] | None = None) -> None:
        self.config: MutableMapping[str, Any] = global_config if config is None else config
        self.service_map: dict[str, ServiceContainer] = {}
        self.container_cls = get_container_cls(self.config)

    @property
    def service_names(self) -> list[str]:
        """The names of the services."""
        return list(self.service_map)

    @property
    def containers(self) -> list[ServiceContainer]:
        """Their containers."""
        return list(self.service_map.values())

    def add_service(self, cls: type) -> None:
        """Host the service class `cls`; one with the same name is replaced."""
        self.service_map[get_service_name(cls)] = self.container_cls(cls, self.config)

    def start(self) -> None:
        """Start all services at once.

        :raises: what the first one that fails raises; all of them are then killed
        """
        _log.info("starting services: %s", ", ".join(self.service_names))
        try:
            SpawningProxy(self.containers, abort_on_error=True).start()
        except BaseException:
            SpawningProxy(self.containers).abandon_start()
            raise
        _log.debug("services started: %s", self.service_names)

    def stop(self) -> None:
        """Stop all services at once; returns when all have stopped."""
        _log.info("stopping services: %s", ", ".join(self.service_names))
        SpawningProxy(self.containers).stop()

    def kill(self) -> None:
        """Kill all services at once."""
        _log.info("killing services: %s", ", ".join(self.service_names))
        SpawningProxy(self.containers).kill()

    def wait(self) -> None:
        """Wait until all services have stopped.

        :raises: the exception of the first container that fails; the others are stopped before
        """
        failures = Queue()
        watchers = [spawn_task(_report_failure, container, failures) for container in self.containers]
        try:
            failure = next((each for each in (failures.get() for _ in watchers) if each is not None), None)
        finally:
            for watcher in watchers:
                watcher.kill()
        if failure is not None:
            self.stop()
            raise failure


def _report_failure(container: ServiceContainer, failures: Any) -> None:
    # As a value, so that it cannot be mistaken for a Timeout or a Ctrl-C that strikes whoever waits for the services.
    try:
        container.wait()
    except BaseException as exc:
        failures.put(exc)
    else:
        failures.put(None)


@contextmanager
def run_services(*services: Any, kill_on_exit: bool = False) -> Iterator[ServiceRunner]:
    """Run services for the length of the block: `run_services(config, ServiceA, ServiceB)`.

    :param services: the configuration (optional, the process-wide one otherwise), then the service classes
    :param kill_on_exit: kill rather than stop at the end; when the block raises, they are killed in any case
    """
    config, service_classes = _split_config(services)
    runner = ServiceRunner(config)
    for service_cls in service_classes:
        runner.add_service(service_cls)
    runner.start()
    try:
        yield runner
    except BaseException as exc:
        if not isinstance(exc, GeneratorExit):  # which comes from the garbage collector, where nothing may wait
            runner.kill()
        raise
    if kill_on_exit:
        runner.kill()
    else:
        runner.stop()


def _split_config(arguments: tuple[Any, ...]) -> tuple[MutableMapping[str, Any] | None, tuple[type, ...]]:
    if arguments and not isinstance(arguments[0], type):
        return arguments[0], arguments[1:]
    return None, arguments
