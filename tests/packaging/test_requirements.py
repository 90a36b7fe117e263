"""Each distribution declares what it imports: from its siblings and from others."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import files as distribution_files
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

WITH_CODE = [
    "nameko-core",
    "nameko-amqp",
    "nameko-events",
    "nameko-health",
    "nameko-http",
    "nameko-metrics",
    "nameko-rpc",
    "nameko-timer",
    "nameko-tracing",
]
#: Used where they happen to be installed, each by a part that says so when they are not.
OPTIONAL = {"bpython", "ipython", "pytest", "requests", "websocket-client"}

#: Names that nameko 2.14 had in a module of the core, and that come from where they belong now when they are asked for.
DELEGATED = {"nameko/testing/utils.py imports nameko.testing.rabbit of nameko-amqp"}


class _Imports(ast.NodeVisitor):
    """Collects the modules that a source file imports when it runs."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, "imports are absolute in this project"
        self.found.update(f"{node.module}.{alias.name}" for alias in node.names)


@lru_cache
def installed_packages() -> Mapping[str, list[str]]:
    return packages_distributions()


def imports_of(path: Path) -> set[str]:
    collector = _Imports()
    collector.visit(ast.parse(path.read_text()))
    # The bare namespace belongs to nobody.
    return {name for name in collector.found - {"nameko"} if name.partition(".")[0] not in sys.stdlib_module_names}


def provider_of(module: str, our_files: Mapping[str, str]) -> str:
    """The distribution that `module` (or the object in a module) comes from."""
    if module.partition(".")[0] != "nameko":
        return foreign_provider_of(module)
    for path in candidates(module.replace(".", "/")):
        if path in our_files:
            return our_files[path]
    raise AssertionError(f"no distribution has {module}")


def foreign_provider_of(module: str) -> str:
    package = module.partition(".")[0]
    names = sorted(set(installed_packages().get(package, [package])))
    if len(names) > 1:  # they share a namespace
        paths = set(candidates(module.replace(".", "/")))
        names = [name for name in names if paths & {str(path) for path in distribution_files(name) or ()}]
    return canonicalize_name(names[0])


def candidates(path: str) -> Iterator[str]:
    for prefix in (path, path.rpartition("/")[0]):
        yield from (f"{prefix}.py", f"{prefix}/__init__.py")


@pytest.mark.parametrize("name", WITH_CODE)
def test_everything_imported_is_required(wheelhouse: Any, repository: Path, name: str) -> None:
    our_files = {path: wheel.name for wheel in wheelhouse.wheels.values() for path in wheel.files}
    source = repository / ("core" if name == "nameko-core" else f"plugins/{name}") / "src"
    required = {Requirement(line).name for line in wheelhouse.wheels[name].metadata.get_all("Requires-Dist")}
    allowed = {canonicalize_name(each) for each in required} | OPTIONAL | {name}
    undeclared = {
        f"{path.relative_to(source)} imports {module} of {provider}"
        for path in source.rglob("*.py")
        for module in imports_of(path)
        if (provider := provider_of(module, our_files)) not in allowed
    }
    assert undeclared - DELEGATED == set()


@pytest.mark.parametrize("name", WITH_CODE)
def test_everything_required_is_imported(wheelhouse: Any, repository: Path, name: str) -> None:
    our_files = {path: wheel.name for wheel in wheelhouse.wheels.values() for path in wheel.files}
    source = repository / ("core" if name == "nameko-core" else f"plugins/{name}") / "src"
    used = {provider_of(module, our_files) for path in source.rglob("*.py") for module in imports_of(path)}
    required = {Requirement(line).name for line in wheelhouse.wheels[name].metadata.get_all("Requires-Dist")}
    assert {canonicalize_name(each) for each in required} <= used
