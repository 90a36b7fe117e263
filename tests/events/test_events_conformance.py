"""The event handler, the dispatcher and their plugin keep what nameko asks of every one."""

from __future__ import annotations

from typing import Any

import pytest

from nameko.containers import ServiceContainer
from nameko.events import EventDispatcher, EventHandler, _plugin
from nameko.standalone.events import event_dispatcher
from nameko.testing.plugins import DependencyProviderConformance, EntrypointConformance, PluginConformance


class OnBroker:
    """The in-process broker of the test."""

    @pytest.fixture(autouse=True)
    def broker(self, memory_uri: str) -> None:
        self.config = {"AMQP_URI": memory_uri}

    def make_config(self) -> dict[str, Any]:
        return dict(self.config)


class TestEventHandler(OnBroker, EntrypointConformance):
    def make_extension(self) -> EventHandler:
        return EventHandler("source", "happened")

    def trigger(self, container: ServiceContainer) -> None:
        dispatch = event_dispatcher(self.config)
        try:
            dispatch("source", "happened", "data")
        finally:
            dispatch.close()


class TestEventDispatcher(OnBroker, DependencyProviderConformance):
    def make_extension(self) -> EventDispatcher:
        return EventDispatcher()

    def use(self, dependency: Any) -> None:
        dependency("happened", "data")


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
