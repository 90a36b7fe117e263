"""The plugin manager: finds the plugins that are installed, loads them, and hands out what they implement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import importlib_metadata
import pluggy

from nameko import hookspecs

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.extensions import Extension


class PluginManager:
    """The plugins of a process and what they implement."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        self._pluggy.add_hookspecs(hookspecs)

    def load_installed(self) -> None:
        """Load every installed plugin."""
        for entry_point in importlib_metadata.entry_points(group=hookspecs.PROJECT_NAME):
            self._pluggy.register(entry_point.load(), name=entry_point.name)
        self._pluggy.check_pending()

    def observers(self, hook_name: str) -> tuple[tuple[str, Callable[..., Any]], ...]:
        """The implementations of an observer hook: plugin name and callable."""
        hook = getattr(self._pluggy.hook, hook_name)
        return tuple((impl.plugin_name, impl.function) for impl in hook.get_hookimpls())

    def service_extensions(self, service_cls: type, config: Mapping[str, Any]) -> list[tuple[str, Extension]]:
        """What plugins attach to a service."""
        offers = self._pluggy.hook.nameko_service_extensions(service_cls=service_cls, config=config)
        return [item for offer in offers if offer for item in offer.items()]

    def not_ready_reasons(self, container: ServiceContainer) -> list[str]:
        """Why the container cannot serve right now, as plugins see it."""
        return [reason for reasons in self._pluggy.hook.nameko_ready(container=container) if reasons for reason in reasons]


def plugins_for(config: Mapping[str, Any]) -> PluginManager:
    """The installed plugins, as the configuration selects them."""
    manager = PluginManager()
    manager.load_installed()
    return manager
