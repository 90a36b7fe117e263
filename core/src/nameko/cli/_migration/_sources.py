"""The source: which files there are, and what in them differs."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nameko.cli._migration._calls import check_call
from nameko.cli._migration._classes import check_class
from nameko.cli._migration._finding import Finding, shown_path
from nameko.cli._migration._names import check_import, check_import_from, check_name, dotted, imported_names


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
        place = getattr(exc, "lineno", None) or 0
        yield Finding(shown, place, f"this is not Python: {getattr(exc, 'msg', exc)}", "mend it, then check again")
        return
    imported = imported_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield from (Finding(shown, *each) for each in check_class(node, imported))
        elif isinstance(node, ast.expr | ast.stmt):
            yield from (Finding(shown, node.lineno, *each) for each in _check_node(node, imported, config))


def _check_node(node: ast.AST, imported: Mapping[str, str], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from check_import_from(node)
    elif isinstance(node, ast.Import):
        yield from check_import(node)
    elif isinstance(node, ast.Attribute):
        yield from check_name(dotted(node))
    elif isinstance(node, ast.Call):
        yield from check_call(node, imported, config)
