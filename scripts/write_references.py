"""Writes the reference pages that are made from the code: `uv run python scripts/write_references.py`.

A test compares the pages with what this would write.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner
from importlib_metadata import EntryPoint

from nameko import hookspecs
from nameko.cli._group import cli
from nameko.cli._plugin_commands import collect_commands
from nameko.config_keys import CORE_KEYS
from nameko.plugins import ConfigKey, PluginManager, Selection

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLES = DOCS.parent / "examples/plugins"
PLUGIN_MODULES = {
    "nameko-amqp": "nameko.amqp._plugin",
    "nameko-rpc": "nameko.rpc._plugin",
    "nameko-events": "nameko.events._plugin",
    "nameko-http": "nameko.web._plugin",
    "nameko-timer": "nameko.timer._plugin",
    "nameko-metrics": "nameko.metrics._plugin",
    "nameko-health": "nameko.health._plugin",
    "nameko-tracing": "nameko.tracing._plugin",
}
ORIGIN = "<!-- Made by scripts/write_references.py from {source}: change it there. -->"
CONFIGURATION_INTRODUCTION = """
Every key that nameko and its own extensions read. `nameko show-config --config FILE` shows what is in effect; a value
of the wrong type is refused at start, and a key that looks like a misspelt one is named in a warning. A service may
keep keys of its own in the same file.

In the file, `${NAME}` stands for an environment variable and `${NAME:default}` for one that need not be set; what is
filled in is read as YAML. A variable that is not set and has no default leaves nothing, with a warning. A value in
quotes is left as it is, unless it is marked: `!env_var "hello ${NAME}"`, or `!raw_env_var "${TOKEN}"` for what is to
stay a string whatever it looks like.

A *number of seconds* may have decimals. A default of *none* means that the key is not set.
"""
HELP_WIDTH = 110
COMMAND_LINE_INTRODUCTION = """
What `--help` says of each command, those of nameko's own plugins included. `nameko test` hands all of its arguments to
pytest. Errors are one line on stderr; the exit statuses are in [Running services](running.md#stopping).
"""
HOOKS_INTRODUCTION = """
Every hook that a plugin can implement: what it is for, when and in which greenthread it is called, what its arguments
and its result mean, and what happens when an implementation raises.
"""


def configuration_page() -> str:
    """The reference of configuration keys."""
    seen: set[str] = set()
    parts = ["# Configuration", ORIGIN.format(source="the keys that are declared"), CONFIGURATION_INTRODUCTION.strip()]
    for distribution, keys in _declared_keys():
        new = [key for key in keys if key.name not in seen]
        seen.update(key.name for key in new)
        if new:
            parts += [f"## {distribution}", _key_table(new)]
    return "\n\n".join(parts) + "\n"


def _declared_keys() -> Iterator[tuple[str, Iterable[ConfigKey]]]:
    yield "nameko-core", CORE_KEYS
    for distribution, module_name in PLUGIN_MODULES.items():
        declare = getattr(import_module(module_name), "nameko_config_keys", None)
        if declare is not None:
            yield distribution, declare()


def _key_table(keys: Iterable[ConfigKey]) -> str:
    rows = [f"| `{key.name}` | {_type(key)} | {_default(key.default)} | {_cell(key.help)} |" for key in keys]
    return "\n".join(["| key | type | default | |", "|---|---|---|---|", *rows])


def _type(key: ConfigKey) -> str:
    words = key.type.replace("seconds", "number of seconds").replace("bytes", "number of bytes")
    return f"{words}, secret" if key.secret else words


def _default(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value not in ((), [], {}) else "empty"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def hooks_page() -> str:
    """The reference of hooks."""
    introduction = inspect.getdoc(hookspecs) or ""
    parts = [
        "# Hooks",
        ORIGIN.format(source="nameko/hookspecs.py"),
        HOOKS_INTRODUCTION.strip(),
        _prose(introduction.partition("\n\n")[2]),
        *(_hook(name, fn) for name, fn in vars(hookspecs).items() if name.startswith("nameko_")),
    ]
    return "\n\n".join(parts) + "\n"


def _hook(name: str, fn: Callable[..., Any]) -> str:
    signature = f"{name}{inspect.signature(fn)}".replace("'", "")
    section = f"## {name}\n\n```text\n{signature}\n```\n\n{_prose(inspect.getdoc(fn) or '')}"
    users = sorted(distribution for distribution, plugin in _plugins() if hasattr(plugin, name))
    return f"{section}\n\nUsed by: {', '.join(users)}." if users else section


def _plugins() -> Iterator[tuple[str, object]]:
    """Each plugin of ours and of the examples, with its distribution."""
    for distribution, module_name in PLUGIN_MODULES.items():
        yield distribution, import_module(module_name)
    for project in sorted(EXAMPLES.glob("*/pyproject.toml")):
        name = project.parent.name
        entry_points = project.read_text().partition("[project.entry-points.nameko]\n")[2].partition("\n\n")[0]
        sys.path.insert(0, str(project.parent / "src"))
        try:
            for target in re.findall(r'^[\w-]+ = "(.+)"$', entry_points, flags=re.MULTILINE):
                yield f"{name} (an example)", EntryPoint(name, target, "nameko").load()
        finally:
            sys.path.pop(0)


def _prose(text: str) -> str:
    """Markdown for the text of a docstring: fields become a list, `::` introduces a block."""
    text = re.sub(r"^:param (\w+): ", r"- `\1`: ", text, flags=re.MULTILINE)
    text = re.sub(r"^:(returns|raises \w+): ", lambda match: f"- {match[1]}: ", text, flags=re.MULTILINE)
    text = re.sub(r"^    (?! )(?=\S)", "  ", text, flags=re.MULTILINE) if "::" not in text else text
    return re.sub(r"::\n\n((?:    .*\n|\n)+)", _as_fence, text)


def _as_fence(match: re.Match[str]) -> str:
    lines = "\n".join(line.removeprefix("    ") for line in match[1].strip("\n").splitlines())
    return f":\n\n```text\n{lines}\n```\n\n"


def command_line_page() -> str:
    """The reference of the command line."""
    parts = ["# Command line", ORIGIN.format(source="the commands' help"), COMMAND_LINE_INTRODUCTION.strip()]
    parts += [_command(path) for path in (*_built_in_commands(), *_plugin_commands())]
    return "\n\n".join(parts) + "\n"


def _built_in_commands() -> Iterator[list[str]]:
    yield []
    # That of pytest, which `nameko test` hands everything to, is pytest's.
    yield from ([name] for name in cli.commands if name != "test")


def _plugin_commands() -> Iterator[list[str]]:
    plugins = PluginManager.load(Selection.from_config({}))
    for name, command in sorted(collect_commands(plugins, built_in=cli.commands).items()):
        yield from _with_subcommands([name], command)


def _with_subcommands(path: list[str], command: click.Command) -> Iterator[list[str]]:
    yield path
    for name, subcommand in sorted(getattr(command, "commands", {}).items()):
        yield from _with_subcommands([*path, name], subcommand)


def _command(path: list[str]) -> str:
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="nameko", terminal_width=HELP_WIDTH)
    if not result.output.startswith("Usage: "):
        raise RuntimeError(f"nameko {' '.join(path)} --help: {result.output} {result.exception!r}")
    return f"## {' '.join(['nameko', *path])}\n\n```text\n{result.output.rstrip()}\n```"


def pages() -> dict[Path, str]:
    """The text of each page by its path."""
    return {
        DOCS / "cli.md": command_line_page(),
        DOCS / "configuration.md": configuration_page(),
        DOCS / "hooks.md": hooks_page(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
