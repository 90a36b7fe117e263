"""The built distributions: what is in each of them, and what is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

VERSION = "3.0.0"
#: The entry point of each plugin, in the group `nameko`.
PLUGINS = {
    "nameko-amqp": ("amqp", "nameko.amqp._plugin"),
    "nameko-events": ("events", "nameko.events._plugin"),
    "nameko-health": ("health", "nameko.health._plugin"),
    "nameko-http": ("http", "nameko.web._plugin"),
    "nameko-metrics": ("metrics", "nameko.metrics._plugin"),
    "nameko-rpc": ("rpc", "nameko.rpc._plugin"),
    "nameko-timer": ("timer", "nameko.timer._plugin"),
    "nameko-tracing": ("tracing", "nameko.tracing._plugin"),
}
WITH_CODE = ["nameko-core", *PLUGINS]
EVERYTHING = ["nameko", *WITH_CODE]
#: What `nameko` does not bring: it is installed by those who want it.
ON_REQUEST = {"nameko-health", "nameko-metrics", "nameko-tracing"}
#: Required for the sake of published extensions.
TAKEN_FOR_GRANTED = ["mock", "six", "wrapt"]
#: Packages that several distributions put modules into: an `__init__.py` there would hide the other ones' modules.
SHARED_PACKAGES = ["nameko", "nameko/standalone", "nameko/testing"]


def requirements(wheel: Any) -> list[Requirement]:
    return [Requirement(line) for line in wheel.metadata.get_all("Requires-Dist", [])]


def test_there_is_a_wheel_and_an_sdist_of_each(wheelhouse: Any) -> None:
    assert sorted(wheelhouse.wheels) == sorted(EVERYTHING)
    assert sorted(wheelhouse.sdists) == sorted(EVERYTHING)


def test_no_wheel_claims_a_package_that_others_share(wheelhouse: Any) -> None:
    forbidden = {f"{package}/__init__.py" for package in SHARED_PACKAGES}
    strays = [(wheel.name, path) for wheel in wheelhouse.wheels.values() for path in wheel.files if path in forbidden]
    assert strays == []


def test_no_path_is_in_two_wheels(wheelhouse: Any) -> None:
    count = Counter(path for wheel in wheelhouse.wheels.values() for path in wheel.files)
    assert [path for path, times in count.items() if times > 1] == []


def test_the_distribution_nameko_has_no_code(wheelhouse: Any) -> None:
    assert wheelhouse.wheels["nameko"].files == []
    assert [path for path in wheelhouse.sdists["nameko"] if path.endswith(".py")] == []


@pytest.mark.parametrize("name", WITH_CODE)
def test_wheel_holds_only_modules_of_the_namespace(wheelhouse: Any, name: str) -> None:
    files = wheelhouse.wheels[name].files
    assert files
    # nameko-core has one for pytest, which says why.
    others = [path for path in files if not path.startswith("nameko/") or "__pycache__" in path]
    assert others == (["pytest_nameko.py"] if name == "nameko-core" else [])


@pytest.mark.parametrize("name", WITH_CODE)
def test_wheel_and_sdist_are_complete(wheelhouse: Any, name: str, source_files: Callable[[str], list[str]]) -> None:
    assert sorted(wheelhouse.wheels[name].files) == source_files(name)
    assert {f"src/{path}" for path in source_files(name)} < set(wheelhouse.sdists[name])


@pytest.mark.parametrize("name", EVERYTHING)
def test_all_have_the_same_version(wheelhouse: Any, name: str) -> None:
    assert wheelhouse.wheels[name].metadata["Version"] == VERSION


@pytest.mark.parametrize("name", EVERYTHING)
def test_siblings_are_required_in_compatible_versions(wheelhouse: Any, name: str) -> None:
    siblings = [each for each in requirements(wheelhouse.wheels[name]) if each.name in EVERYTHING]
    assert {str(each.specifier) for each in siblings} <= {f"~={VERSION}"}


def test_nameko_requires_all_but_what_is_installed_on_request(wheelhouse: Any) -> None:
    required = {each.name for each in requirements(wheelhouse.wheels["nameko"])}
    assert required == {*WITH_CODE, *TAKEN_FOR_GRANTED} - ON_REQUEST


@pytest.mark.parametrize("name", WITH_CODE)
def test_every_other_requirement_has_a_lower_bound(wheelhouse: Any, name: str) -> None:
    others = [each for each in requirements(wheelhouse.wheels[name]) if each.name not in EVERYTHING]
    assert [str(each) for each in others if not str(each.specifier).startswith(">=")] == []


@pytest.mark.parametrize("name", EVERYTHING)
def test_python_versions_are_declared(wheelhouse: Any, name: str) -> None:
    metadata = wheelhouse.wheels[name].metadata
    assert metadata["Requires-Python"] == ">=3.10"
    for minor in range(10, 14):
        assert f"Programming Language :: Python :: 3.{minor}" in metadata.get_all("Classifier")


@pytest.mark.parametrize("name", EVERYTHING)
def test_licence_is_named_and_included(wheelhouse: Any, name: str, repository: Path) -> None:
    wheel = wheelhouse.wheels[name]
    assert wheel.metadata["License-Expression"] == "Apache-2.0"
    assert wheel.licences == [(repository / "LICENSE").read_text()]


@pytest.mark.parametrize("name", EVERYTHING)
def test_description_is_the_readme(wheelhouse: Any, name: str) -> None:
    metadata = wheelhouse.wheels[name].metadata
    assert metadata["Summary"]
    assert len(str(metadata.get_payload()).splitlines()) > 10


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_is_found_through_its_entry_point(wheelhouse: Any, name: str) -> None:
    wheel = wheelhouse.wheels[name]
    entry_name, module = PLUGINS[name]
    assert wheel.entry_points["nameko"] == {entry_name: module}
    assert f"{module.replace('.', '/')}.py" in wheel.files


def test_core_brings_the_command_and_no_plugin(wheelhouse: Any) -> None:
    entry_points = wheelhouse.wheels["nameko-core"].entry_points
    assert list(entry_points["console_scripts"]) == ["nameko"]
    assert "nameko" not in entry_points


def test_pytest_plugins_have_names_of_their_own(wheelhouse: Any) -> None:
    names = [name for wheel in wheelhouse.wheels.values() for name in wheel.entry_points.get("pytest11", {})]
    assert sorted(names) == sorted(set(names))
