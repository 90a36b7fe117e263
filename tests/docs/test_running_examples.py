"""What docs/running.md shows with several processes also works in one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs/running.md"


def test_the_clock_ticks_without_workers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("NAMEKO_WORKER_INDEX", raising=False)
    (source,) = re.findall(r"^```python file=clock\.py\n(.+?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {"__name__": "clock"}
    exec(source, namespace)
    namespace["Clock"]().tick()
    assert capsys.readouterr().out == "worker 0 ticks\n"
