"""`nameko shell`: a Python prompt with an object `n` that talks to services, and may host some itself."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from logging import getLogger
from typing import Any

from nameko import concurrency
from nameko.cli._services import import_services
from nameko.cli._shell_interfaces import INTERFACES, run_script
from nameko.config import config as global_config
from nameko.constants import AMQP_URI_CONFIG_KEY, DEFAULT_AMQP_URI
from nameko.exceptions import CommandError, ConfigurationError
from nameko.masking import mask_config
from nameko.plugins import PluginInfo, PluginManager, plugins_for
from nameko.plugins._failures import blaming
from nameko.runners import ServiceRunner


def main(interface: str | None, services: Sequence[str]) -> int:
    """Open a shell with the process-wide configuration.

    :param interface: `ipython`, `bpython` or `plain`; when None, IPython if it is installed
    :param services: what to host in this process: `module` or `module:Class`
    :returns: the exit status
    :raises CommandError: when the interface is not installed or cannot host services, or a service cannot be found
    """
    if services and interface == "bpython":
        raise CommandError("bpython cannot host services: use --interface ipython or plain with --run")
    if not services:
        # A shell alone on an in-process broker would have nobody to talk to.
        global_config.setdefault(AMQP_URI_CONFIG_KEY, DEFAULT_AMQP_URI)
    session = Session(global_config, services)
    if not sys.stdin.isatty():
        return run_script(session)
    return INTERFACES[interface or ("ipython" if importlib.util.find_spec("IPython") else "plain")](session)


_log = getLogger(__name__)

_STOP_TIMEOUT_S = 2


class Session:
    """What a shell works with, from before its first prompt to after its last."""

    def __init__(self, config: MutableMapping[str, Any], services: Sequence[str]) -> None:
        self._config = config
        self._services = services

    @contextmanager
    def opened(self) -> Iterator[dict[str, Any]]:
        """The names that the prompt knows. Services run for the length of the block."""
        with self._running_services():
            names = Namespace(self._config, plugins_for(self._config))
            try:
                yield {"n": names}
            finally:
                names.disconnect()

    @contextmanager
    def _running_services(self) -> Iterator[None]:
        if not self._services:
            yield
            return
        runner = ServiceRunner(self._config)
        for service_cls in import_services(self._services):
            runner.add_service(service_cls)
        runner.start()
        try:
            yield
        finally:
            _stop_soon(runner)

    @property
    def banner(self) -> str:
        """What to say first."""
        services = f"; running {', '.join(self._services)}" if self._services else ""
        broker = mask_config({"broker": self._config.get(AMQP_URI_CONFIG_KEY, "in-process")})["broker"]
        return f"Nameko shell, Python {sys.version.split()[0]}; broker: {broker}{services}\nSee n, and dir(n)."


def _stop_soon(runner: ServiceRunner) -> None:
    # Whoever leaves a shell does not wait half a minute for a worker that was only tried out.
    if concurrency.wait_all([concurrency.spawn(runner.stop)], _STOP_TIMEOUT_S):
        runner.kill()


class Namespace:
    """The object `n`: `config`, `disconnect()`, and what plugins add."""

    def __init__(self, config: Mapping[str, Any], plugins: PluginManager) -> None:
        self.config = config
        self._plugins = plugins
        self._resources: list[tuple[PluginInfo, ExitStack]] = []
        self._fill()

    def _fill(self) -> None:
        for plugin, get_names in self._plugins.observers("nameko_shell_namespace"):
            resources = ExitStack()
            self._resources.append((plugin, resources))
            # With a configuration that cannot work there is nothing to talk to: its user's mistake, not the plugin's.
            with blaming(plugin, "nameko_shell_namespace", let_through=ConfigurationError):
                self._add(plugin, get_names(config=self.config, exit_stack=resources) or {})

    def _add(self, plugin: PluginInfo, names: Mapping[str, Any]) -> None:
        for name, value in names.items():
            if name in ("config", "disconnect"):
                _log.error("plugin %s: `n.%s` is left out, the shell has its own", plugin, name)
            else:
                setattr(self, name, value)

    def disconnect(self) -> None:
        """Close all connections. What is used again connects again."""
        while self._resources:
            plugin, resources = self._resources.pop()
            with blaming(plugin, "what nameko_shell_namespace has registered"):
                resources.close()
        self._fill()

    def __repr__(self) -> str:
        names = ", ".join(f"n.{name}" for name in sorted((*vars(self), "disconnect")) if not name.startswith("_"))
        return f"<{names}>"
