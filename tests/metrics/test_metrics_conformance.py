"""nameko-metrics and its extension keep what nameko asks of every one."""

from __future__ import annotations

from typing import Any

from nameko.metrics import _plugin
from nameko.metrics._extension import ServiceMetrics
from nameko.testing.plugins import ExtensionConformance, PluginConformance


class OnFreePort:
    def make_config(self) -> dict[str, Any]:
        return {"METRICS_ADDRESS": "127.0.0.1:0"}


class TestServiceMetrics(OnFreePort, ExtensionConformance):
    def make_extension(self) -> ServiceMetrics:
        return ServiceMetrics()


class TestPlugin(OnFreePort, PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
