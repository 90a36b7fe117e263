"""Running a service with exactly the plugins that a test names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nameko.config import config as global_config
from nameko.containers import ServiceContainer, get_container_cls
from nameko.plugins import PluginManager, Selection


def plugin_manager(plugins: Iterable[object] = ()) -> PluginManager:
    """A plugin manager of exactly these plugins, whatever else is installed.

    :param plugins: each the name of an installed plugin or of its distribution, or a plugin itself: a module or an
        object that carries hook implementations. The latter is called by its `__name__`, or that of its class.
    :raises PluginError: when one is not installed, cannot be imported, or breaks the rules of the hooks
    :raises ValueError: when two have the same name
    """
    named = frozenset(plugin for plugin in plugins if isinstance(plugin, str))
    objects: dict[str, object] = {}
    for plugin in plugins:
        if not isinstance(plugin, str) and objects.setdefault(_name(plugin), plugin) is not plugin:
            raise ValueError(f"two plugins are called {_name(plugin)!r}: give one another `__name__`")
    manager = PluginManager.load(Selection(only=named, require=named), objects)
    manager.check()
    return manager


def _name(plugin: object) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__name__))


@contextmanager
def run_service(
    service_cls: type, config: Mapping[str, Any] | None = None, *, plugins: Iterable[object] = ()
) -> Iterator[ServiceContainer]:
    """Run a service for the length of the block, with exactly these plugins.

    At the end of the block it is stopped; when the block raises, it is killed.

    :param config: its configuration, empty by default; `nameko.config` holds the same while the block runs
    :param plugins: see `plugin_manager`
    :returns: yields the container, started
    :raises: what makes the service fail to start
    """
    with global_config.patch(dict(config or {}), clear=True):
        container = get_container_cls(global_config)(
            service_cls, dict(config or {}), plugins=plugin_manager(tuple(plugins))
        )
        container.start()
        try:
            yield container
        except BaseException as exc:
            if not isinstance(exc, GeneratorExit):  # which comes from the garbage collector, where nothing may wait
                container.kill()
            raise
        container.stop()
