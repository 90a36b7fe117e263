"""The source: which files there are, and what in them differs."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nameko.cli._migration._calls import check_call, check_statement
from nameko.cli._migration._classes import check_class
from nameko.cli._migration._finding import Difference, Finding, shown_path
from nameko.cli._migration._names import check_import, check_import_from, check_name, full_name, imported_names


def project_files(modules: list[str]) -> list[str]:
    """The source files of modules, and of what is imported from beside or below them."""
    roots = {_root(module) for module in modules} - {None}
    imported = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    below = [file for file in imported if file and any(_is_in(file, root) for root in roots if root)]
    files = {*below, *(_origin(module) for module in modules)}
    return sorted(file for file in files if file and file.endswith(".py"))


def _origin(module: str) -> str | None:
    # Known also for a module that fails when it is imported, but not when the package that it is in does.
    try:
        spec = importlib.util.find_spec(module)
    except Exception:
        return None
    return None if spec is None else spec.origin


def _root(module: str) -> str | None:
    origin = _origin(module.partition(".")[0]) or _origin(module)
    return os.path.dirname(os.path.abspath(origin)) if origin else None


def _is_in(file: str, root: str) -> bool:
    below = os.path.relpath(os.path.abspath(file), root)
    return not below.startswith(os.pardir) and "site-packages" not in file


def check_source(path: str, config: Mapping[str, Any]) -> Iterator[Finding]:
    """Findings in the Python source at `path`, which runs under `config`."""
    shown = shown_path(path)
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except (SyntaxError, ValueError) as exc:  # ValueError: null bytes
        text = f"this is not Python: {getattr(exc, 'msg', exc)}"
        yield Difference(text, "mend it, then check again").at(shown, getattr(exc, "lineno", None) or 0)
        return
    imported = imported_names(tree)
    guarded = set(_guarded_imports(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (difference.at(shown, line) for line, difference in check_class(node, imported, config))
        elif isinstance(node, ast.expr | ast.stmt):
            differences = _check_node(node, imported, config, node in guarded)
            yield from (difference.at(shown, node.lineno) for difference in differences)


def _guarded_imports(tree: ast.AST) -> Iterator[ast.AST]:
    # Those whose failure is dealt with: in code that runs under both versions.
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(_catches_import_errors(handler) for handler in node.handlers):
            inside = (each for statement in node.body for each in ast.walk(statement))
            yield from (each for each in inside if isinstance(each, ast.Import | ast.ImportFrom))


def _catches_import_errors(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {each.id for each in ast.walk(handler.type) if isinstance(each, ast.Name)}
    return not names.isdisjoint({"ImportError", "ModuleNotFoundError", "Exception"})


def _check_node(
    node: ast.AST, imported: Mapping[str, str], config: Mapping[str, Any], guarded: bool
) -> Iterator[Difference]:
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from check_import_from(node, guarded)
    elif isinstance(node, ast.Import):
        yield from check_import(node, guarded)
    elif isinstance(node, ast.Attribute):
        yield from check_name(full_name(node, imported))
    elif isinstance(node, ast.Call):
        yield from check_call(node, imported, config)
    elif isinstance(node, ast.Expr):
        yield from check_statement(node, config)
