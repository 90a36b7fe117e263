"""`nameko plugins`: which plugins there are and what has become of each.

Unless asked to, it imports none of them: so it answers at once, and can tell of plugins that are broken. What is told
without an import is whether there is a module to import.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nameko.config import config
from nameko.plugins import (
    PluginInfo,
    Selection,
    Status,
    describe_unknown_names,
    describe_unmet_requirements,
    find_plugins,
)

if TYPE_CHECKING:
    from nameko.plugins import PluginManager

_COLUMNS = ("name", "distribution", "version", "status")


def main(verbose: bool, check: bool, as_json: bool) -> int:
    """Print the installed plugins.

    :param verbose: import each, and add its hooks, extensions, configuration keys and commands
    :param check: import each, and fail when one that is wanted cannot be used, or one that is required is not there
    :param as_json: print a JSON array of objects
    :returns: the exit status: 1 when `check` finds something, and 0 otherwise
    """
    selection = Selection.from_config(config)
    if verbose or check:
        plugins, rows = _imported(selection, verbose)
    else:
        plugins = [_look_for_module(info) for info in find_plugins(selection)]
        rows = [_row(info) for info in plugins]
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo("\n".join(_as_text(rows)))
        if any(info.status is Status.ENABLED for info in plugins):
            click.echo("enabled: not imported so far; --verbose and --check import them, and tell whether that works")
    unmet = list(describe_unmet_requirements(selection, plugins))
    for problem in (*describe_unknown_names(selection, plugins), *unmet):
        click.echo(f"Warning: {problem}", err=True)
    return 1 if check and (unmet or any(info.broken for info in plugins)) else 0


def _look_for_module(info: PluginInfo) -> PluginInfo:
    """The same plugin; not importable if there is no such module. Finds out without importing anything."""
    module_name = info.target.partition(":")[0].split(" ")[0]
    if info.status is not Status.ENABLED or _has_module(module_name):
        return info
    return info.with_status(Status.NOT_IMPORTABLE, f"there is no module {module_name!r}")


def _has_module(name: str) -> bool:
    # `importlib.util.find_spec` would import the packages that the module is in.
    parent, _, rest = name.partition(".")
    path = getattr(sys.modules.get(parent), "__path__", None)
    if path is None:
        spec = _find_spec(parent, None)
        if spec is None:
            return parent in sys.modules and not rest
        path = spec.submodule_search_locations
    for part in filter(None, rest.split(".")):
        parent = f"{parent}.{part}"
        spec = None if path is None else _find_spec(parent, path)
        if spec is None:
            return False
        path = spec.submodule_search_locations
    return True


def _find_spec(name: str, path: Any) -> Any:
    specs = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)


def _row(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "status": info.status.value,
        "target": info.target,
        "problem": info.problem,
    }


def _imported(selection: Selection, verbose: bool) -> tuple[list[PluginInfo], list[dict[str, Any]]]:
    from nameko.plugins import PluginManager

    manager = PluginManager.load(selection)
    details = _details(manager) if verbose else {}
    return manager.plugins, [{**_row(info), **details.get(info, {})} for info in manager.plugins]


def _details(manager: PluginManager) -> dict[PluginInfo, dict[str, list[str]]]:
    from nameko.cli._plugin_commands import commands_by_plugin
    from nameko.plugins import ConfigKey, ExtensionInfo

    extensions = defaultdict(list)
    for plugin, extension in manager.collect_items("nameko_extensions", ExtensionInfo):
        extensions[plugin.name].append(f"{extension.cls.__module__}.{extension.cls.__qualname__}: {extension.help}")
    keys = defaultdict(list)
    for plugin, key in manager.collect_items("nameko_config_keys", ConfigKey):
        keys[plugin.name].append(key.name)
    commands = commands_by_plugin(manager)
    return {
        info: {
            "hooks": manager.hooks_of(info.name),
            "extensions": extensions[info.name],
            "config_keys": keys[info.name],
            "commands": sorted(commands.get(info, ())),
        }
        for info in manager.loaded
    }


def _as_text(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    if not rows:
        yield "no plugins are installed"
        return
    cells = [[str(row[column] or "-") for column in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *cells, strict=True)]
    yield _line([column.upper() for column in _COLUMNS], widths)
    for row, line in zip(rows, cells, strict=True):
        yield _line(line, widths)
        if row["problem"]:
            yield f"    {row['problem']}"
        for detail in ("hooks", "extensions", "config_keys", "commands"):
            yield from _detail_lines(detail.replace("config_keys", "configuration keys"), row.get(detail, ()))


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _detail_lines(title: str, items: Sequence[str]) -> Iterable[str]:
    if items:
        yield f"    {title}:"
        yield from (f"        {item}" for item in items)
