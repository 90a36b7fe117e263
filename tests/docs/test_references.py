"""The reference pages that are made from the code are those that are in the repository."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def write_references() -> ModuleType:
    spec = spec_from_file_location("write_references", ROOT / "scripts/write_references.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["cli.md", "configuration.md", "hooks.md"])
def test_page_is_up_to_date(write_references: ModuleType, name: str) -> None:
    pages = {path.name: (path, text) for path, text in write_references.pages().items()}
    path, text = pages[name]
    assert path.read_text() == text, f"run `uv run python scripts/write_references.py` to renew docs/{name}"


def test_every_hook_says_when_it_fires(write_references: ModuleType) -> None:
    page: str = write_references.hooks_page()
    hooks = page.split("\n## ")[1:]
    assert [hook.splitlines()[0] for hook in hooks if "\nFires: " not in hook] == []
    assert len(hooks) == 16


def test_every_configuration_key_has_one_sentence_of_help(write_references: ModuleType) -> None:
    rows = [line for line in write_references.configuration_page().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert [row for row in rows if not row.split(" | ")[-1].strip(" |")] == []
