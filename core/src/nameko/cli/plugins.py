"""`nameko plugins`: which plugins there are and what has become of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import click

from nameko.config import config
from nameko.plugins import PluginInfo, Selection, find_plugins

_COLUMNS = ("name", "distribution", "version", "status")


def main(verbose: bool, as_json: bool) -> None:
    """Print the installed plugins.

    :param verbose: import each, and add its hooks, extensions and commands
    :param as_json: print a JSON array of objects
    """
    selection = Selection.from_config(config)
    rows = _imported_rows(selection) if verbose else [_row(info) for info in find_plugins(selection)]
    if as_json:
        import json

        click.echo(json.dumps(rows, indent=2))
    else:
        click.echo("\n".join(_as_text(rows)))


def _row(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "status": info.status.value,
        "target": info.target,
        "problem": info.problem,
    }


def _imported_rows(selection: Selection) -> list[dict[str, Any]]:
    from nameko.cli._plugin_commands import commands_by_plugin
    from nameko.plugins import ExtensionInfo, PluginManager

    manager = PluginManager.load(selection)
    extensions = defaultdict(list)
    for plugin, extension in manager.collect_items("nameko_extensions", ExtensionInfo):
        extensions[plugin.name].append(f"{extension.cls.__module__}.{extension.cls.__qualname__}: {extension.help}")
    commands = commands_by_plugin(manager)
    details = {
        info: {
            "hooks": manager.hooks_of(info.name),
            "extensions": extensions[info.name],
            "commands": sorted(commands.get(info, ())),
        }
        for info in manager.loaded
    }
    return [{**_row(info), **details.get(info, {})} for info in manager.plugins]


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
        for detail in ("hooks", "extensions", "commands"):
            yield from _detail_lines(detail, row.get(detail, ()))


def _line(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _detail_lines(title: str, items: Sequence[str]) -> Iterable[str]:
    if items:
        yield f"    {title}:"
        yield from (f"        {item}" for item in items)
