"""nameko-tracing keeps what the test kit asks of every plugin, whatever is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from nameko.testing.plugins import PluginConformance
from nameko.tracing import _plugin


@pytest.mark.usefixtures("spans")
class TestRecording(PluginConformance):
    def make_plugin(self) -> Any:
        return _plugin

    def make_config(self) -> dict[str, Any]:
        return {"TRACING_ARGUMENTS": True}


class TestWithoutProvider(PluginConformance):
    def make_plugin(self) -> Any:
        return _plugin
