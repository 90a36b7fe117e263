"""The modules that are to be checked: imported, and what stands in the way of it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Sequence
from types import ModuleType

from nameko.cli._migration._finding import Difference, Finding, note
from nameko.cli._services import (
    NAMESAKES_REMEDY,
    ModuleFailsError,
    classes_with_entrypoints,
    describe_namesakes,
    import_module,
    import_service,
)
from nameko.exceptions import CommandError


def import_modules(specs: Sequence[str]) -> tuple[list[type], list[Finding]]:
    """The service classes that `specs` name, each once, and findings about the modules themselves."""
    classes: list[type] = []
    findings: list[Finding] = []
    for spec in specs:
        try:
            if ":" in spec:
                classes += import_service(spec)
                continue
            module = import_module(spec)
        except CommandError as exc:
            findings.append(Difference(str(exc), _remedy(exc)).at(spec))
            continue
        found = classes_with_entrypoints(module)
        classes += found
        if not found:
            findings.append(_without_services(module).at(spec))
    services = list(dict.fromkeys(classes))
    return services, [*findings, *_namesakes(services)]


def _remedy(failure: CommandError) -> str:
    if "'pkg_resources'" in str(failure):  # nameko-amqp-retry imports it
        return "pip install 'setuptools<81', the last ones that have it"
    if isinstance(failure, ModuleFailsError):
        return (
            "mend it where it is a service, as `nameko run` imports it too; in a script, put what it does below "
            '`if __name__ == "__main__":`; then check again, as no service in it has been looked at'
        )
    return "name it as `nameko run` takes it: MODULE or MODULE:CLASS, found from the current directory on"


def _without_services(module: ModuleType) -> Difference:
    if _names_nameko(module):
        return note(
            "no class in this module has an entrypoint: only its source has been looked at",
            "nothing, for scripts, tests and extensions; where there is a service, name its module",
        )
    return Difference(
        "no class in this module has an entrypoint, and it imports nothing of nameko: there is nothing to check",
        "name the module that the service class is in, as `nameko run` takes it",
    )


def _names_nameko(module: ModuleType) -> bool:
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):
        return False
    return any(name.split(".")[0] == "nameko" for node in ast.walk(tree) for name in _imported_modules(node))


def _imported_modules(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []


def _namesakes(services: Sequence[type]) -> Iterator[Finding]:
    by_name: dict[str, type] = {}
    for cls in services:
        name = getattr(cls, "name", None)
        if not name or not isinstance(name, str):  # which is a finding of its own
            continue
        other = by_name.setdefault(name, cls)
        if other is not cls:
            remedy = f"one process takes one: {NAMESAKES_REMEDY}, or check each by itself where they never share one"
            yield Difference(describe_namesakes(other, cls), remedy).at(cls.__module__)
