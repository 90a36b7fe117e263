"""nameko-health and its extension keep what nameko asks of every one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nameko.health import _plugin
from nameko.health._extension import ServiceHealth
from nameko.testing.plugins import ExtensionConformance, PluginConformance


class OnFreeAddresses:
    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def make_config(self) -> dict[str, Any]:
        return {"HEALTH_ADDRESS": "127.0.0.1:0", "HEALTH_SOCKET": str(self.directory / "health.sock")}


class TestServiceHealth(OnFreeAddresses, ExtensionConformance):
    def make_extension(self) -> ServiceHealth:
        return ServiceHealth()


class TestPlugin(OnFreeAddresses, PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
