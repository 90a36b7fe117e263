"""What is installed is told without importlib_metadata as it is by importlib_metadata."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import importlib_metadata
import pytest

from nameko.plugins import installed_version
from nameko.plugins._installed import entry_points, installed_distributions, normalized
from nameko.testing.plugins import install_distribution


def told() -> dict[str, set[tuple[str, str]]]:
    return {
        name: set(entry_points(distribution, "console_scripts")) | set(entry_points(distribution, "nameko"))
        for name, distribution in installed_distributions().items()
    }


def told_by_library() -> dict[str, set[tuple[str, str]]]:
    found: dict[str, set[tuple[str, str]]] = {}
    for each in importlib_metadata.distributions():
        groups = {
            (point.name, point.value) for point in each.entry_points if point.group in ("console_scripts", "nameko")
        }
        found.setdefault(normalized(each.name), groups)
    return found


def test_it_is_the_same_here() -> None:
    assert told() == told_by_library()
    assert {"nameko-core", "pluggy", "pytest"} <= set(told())


def test_the_library_is_not_imported_for_it() -> None:
    program = """
import sys
from nameko.plugins import Selection, find_plugins

assert find_plugins(Selection())
assert "importlib_metadata" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", ["acme-audit", "Acme_Audit", "ACME.audit", "acme--audit"])
def test_names_are_compared_as_packaging_tools_do(name: str) -> None:
    with install_distribution("acme-audit", {}, version="1.2"):
        assert installed_version(name) == "1.2"
    assert installed_version(name) is None


def test_the_first_on_the_path_counts() -> None:
    with (
        install_distribution("acme", {"old": "old"}, version="1"),
        install_distribution("acme", {"new": "new"}, version="2"),
    ):
        assert installed_version("acme") == "2"
        assert told()["acme"] == {("new", "new")}


def test_entry_points_are_read_as_they_may_be_written(tmp_path: Path) -> None:
    text = "[other]\nno = no\n\n# nothing\n[nameko]\n  one=a.b:c \n# two = d\nthree = e:f [extra]\n[last]\nno = no\n"
    with install_distribution("acme", {"none": "none"}) as directory:
        (directory / "acme-1.0.dist-info/entry_points.txt").write_text(text)
        assert told()["acme"] == {("one", "a.b:c"), ("three", "e:f [extra]")}


def test_what_is_left_of_an_installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "acme-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert told()["acme"] == set()


def test_an_egg_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    egg = tmp_path / "acme.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: acme\nVersion: 1.5\n")
    (egg / "entry_points.txt").write_text("[nameko]\nacme = acme\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert told()["acme"] == {("acme", "acme")}
    assert installed_version("acme") == "1.5"


def test_a_zip_file_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "library.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("acme-1.5.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.5\n")
        archive.writestr("acme-1.5.dist-info/entry_points.txt", "[nameko]\nacme = acme\n")
    monkeypatch.syspath_prepend(str(path))
    assert told()["acme"] == {("acme", "acme")}
    assert installed_version("acme") == "1.5"


def test_a_finder_of_somebody_else_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "acme-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.5\n")

    class Finder(importlib_metadata.DistributionFinder):
        def find_spec(self, *_: object) -> None:
            return None

        def find_distributions(self, context: object = None) -> list[importlib_metadata.Distribution]:
            return [importlib_metadata.PathDistribution(info)]

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])
    assert installed_version("acme") == "1.5"
