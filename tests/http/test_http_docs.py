"""The limits that docs/http.md tells of are those that are declared."""

from __future__ import annotations

import re
from pathlib import Path

from nameko.web._settings import KEYS

PAGE = Path(__file__).parents[2] / "docs" / "http.md"


def test_the_table_of_limits():
    rows = dict(re.findall(r"^\| `(WEB_SERVER_\w+)` \| (\d+) \|", PAGE.read_text(), re.MULTILINE))
    limits = {key.name: str(key.default) for key in KEYS.values() if type(key.default) in (int, float)}
    assert rows == {name: default for name, default in limits.items() if not name.startswith("WEBSOCKET")}


def test_every_key_is_told_of():
    text = PAGE.read_text()
    untold = [key.name for key in KEYS.values() if key.name not in text and not key.name.startswith("WEBSOCKET")]
    assert untold == []
