"""The timer keeps what nameko asks of every entrypoint."""

from __future__ import annotations

from nameko.containers import ServiceContainer
from nameko.testing.plugins import EntrypointConformance, PluginConformance
from nameko.timer import Timer, _plugin


class TestTimer(EntrypointConformance):
    def make_extension(self) -> Timer:
        return Timer(interval=0.01)

    def trigger(self, container: ServiceContainer) -> None:
        """It does so itself."""

    def test_more_at_once_than_workers(self) -> None:
        """There is one worker at a time in any case."""


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
