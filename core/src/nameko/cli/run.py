"""`nameko run`: hosts services until they end or a signal stops them."""

from __future__ import annotations

import gc
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from logging import getLogger
from typing import Any

from nameko.cli._services import import_service, import_services
from nameko.cli._signals import StopSignals
from nameko.cli._supervisor_link import SupervisorLink
from nameko.config import config as global_config
from nameko.constants import DEFAULT_SHUTDOWN_TIMEOUT_S, SHUTDOWN_TIMEOUT_CONFIG_KEY
from nameko.plugins import plugins_for
from nameko.runners import ServiceRunner

__all__ = ["import_service", "import_services", "main", "run"]

_log = getLogger(__name__)


def main(services: Sequence[str], backdoor: bool = False, backdoor_port: str | None = None) -> int:
    """Run the services that `services` name (`module` or `module:Class`) with the process-wide configuration.

    :param backdoor: open a Unix socket for `nameko backdoor`
    :param backdoor_port: open one on this loopback address, `[host:]port`
    :returns: the exit status
    :raises CommandError: when a service cannot be found
    :raises ConfigurationError: when it cannot work as it is configured
    """
    return run(import_services(services), global_config, backdoor_port=backdoor_port, backdoor=backdoor)


def run(
    services: Sequence[type],
    config: MutableMapping[str, Any],
    backdoor_port: str | int | None = None,
    backdoor: bool = False,
) -> int:
    """Run service classes in this process, in the main thread, until they end or SIGTERM or SIGINT stops them.

    :returns: the exit status: 0, or 128 + signal number when a second signal killed them
    :raises: what makes a service fail to start, or what kills it
    """
    runner = ServiceRunner(config)
    for service_cls in services:
        runner.add_service(service_cls)
    timeout_s = config.get(SHUTDOWN_TIMEOUT_CONFIG_KEY, DEFAULT_SHUTDOWN_TIMEOUT_S)
    supervisor = SupervisorLink()
    with (
        _backdoors(runner, backdoor_port, backdoor),
        StopSignals(runner.stop, runner.kill, timeout_s, supervisor) as signals,
        supervisor,
    ):
        _log.info("plugins: %s", plugins_for(config).describe_loaded())
        runner.start()
        _freeze_garbage_collector()
        if not signals.received:
            _log.info("services ready: %s", ", ".join(runner.service_names))
            supervisor.tell_ready()
        runner.wait()
    return signals.exit_status


def _freeze_garbage_collector() -> None:
    # What start-up made lives as long as the process. Going through it again at each full collection would stop all
    # requests for tens of milliseconds.
    gc.collect()
    gc.freeze()


@contextmanager
def _backdoors(runner: ServiceRunner, port: str | int | None, on_socket: bool) -> Iterator[None]:
    if port is None and not on_socket:
        yield
        return
    from nameko.cli._backdoor_server import open_backdoors

    with open_backdoors(port, on_socket, {"runner": runner, "config": runner.config}):
        yield
