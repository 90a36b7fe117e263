"""`nameko plugin new`: writes a distribution that brings a plugin, from the templates beside this module."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

import click

from nameko.exceptions import CommandError
from nameko.import_failures import PROVIDERS
from nameko.plugins import Selection, find_plugins, installed_version

KINDS = ("entrypoint", "dependency", "observer", "command")

_TEMPLATES = Path(__file__).parent / "_plugin_template"
_SUFFIX = ".tmpl"
_PREFIX = "nameko-"
_NAME = re.compile(r"[a-z](?:[a-z0-9]|-(?=[a-z0-9]))*")
_MAX_NAME_LENGTH = 60
#: Names of plugins that are ours, installed or not.
_OURS = {"nameko", "core", *(distribution.removeprefix(_PREFIX) for distribution in PROVIDERS.values())}
#: A block of a template that only some kinds have: from `%% kind kind...` to `%% end`, each on a line of its own.
_BLOCK = re.compile(r"^%% (?!end$)(?P<kinds>[a-z ]+)\n(?P<body>.*?)^%% end\n", re.MULTILINE | re.DOTALL)


def main(name: str, kinds: Sequence[str], directory: str, built_in_commands: Sequence[str]) -> None:
    """Write the distribution `name` into a new directory of that name.

    :param kinds: what it is to bring, of `KINDS`
    :param directory: where to make that directory
    :param built_in_commands: names that a plugin's command cannot have
    :raises CommandError: when the name cannot be used, or the directory cannot be written
    """
    plugin = name.removeprefix(_PREFIX)
    package = name.replace("-", "_")
    for problem in _problems(name, plugin, package, built_in_commands):
        raise CommandError(f"a plugin cannot be called {name!r}: {problem}")
    target = Path(directory) / name
    if target.exists():
        raise CommandError(f"{target} exists already: choose another name, or remove it")
    values = {
        "name": name,
        "plugin": plugin,
        "package": package,
        "prefix": plugin.replace("-", "_").upper(),
        "release": ".".join((installed_version("nameko-core") or "3.0").split(".")[:2]),
    }
    _write(target, {path: _render(text, kinds, values) for path, text in _templates(kinds, package)})
    click.echo(f"{target} is a distribution with the plugin {plugin!r}. To try it:\n")
    click.echo(f"    cd {target}\n    pip install -e '.[test]'\n    pytest\n    nameko plugins")


def _problems(name: str, plugin: str, package: str, built_in_commands: Sequence[str]) -> Iterator[str]:
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        yield f"use lower-case letters, digits and single hyphens, {_MAX_NAME_LENGTH} at most, as in `acme-audit`"
    if plugin in _OURS:
        yield "that name belongs to nameko"
    if plugin in built_in_commands:
        yield f"`nameko {plugin}` is a command already"
    if not plugin or keyword.iskeyword(package) or package in sys.stdlib_module_names:
        yield f"Python keeps `{package}` to itself"
    for info in find_plugins(Selection()):
        if info.name == plugin:
            yield f"there is a plugin {plugin!r} already, {info.origin}"
    if importlib.util.find_spec(package) is not None:
        yield f"a module `{package}` is installed already"


def _templates(kinds: Sequence[str], package: str) -> Iterator[tuple[str, str]]:
    """The path of each file below the new directory, and its template."""
    for path in sorted(_TEMPLATES.rglob(f"*{_SUFFIX}")):
        kind = path.name.removesuffix(_SUFFIX).removesuffix(".py").removeprefix("test_")
        if kind in kinds or kind not in KINDS:
            relative = path.relative_to(_TEMPLATES).as_posix().removesuffix(_SUFFIX)
            yield relative.replace("src/package/", f"src/{package}/"), path.read_text(encoding="utf-8")


def _render(text: str, kinds: Sequence[str], values: dict[str, str]) -> str:
    chosen = _BLOCK.sub(lambda block: block["body"] if set(kinds) & set(block["kinds"].split()) else "", text)
    return Template(chosen).substitute(values)


def _write(target: Path, files: dict[str, str]) -> None:
    """Write all of it, or nothing."""
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    except OSError as exc:
        raise CommandError(f"{target.parent} cannot be written: {exc.strerror}") from exc
    try:
        temporary.chmod(0o777 & ~_umask())
        for path, text in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(text, encoding="utf-8")
        os.rename(temporary, target)
    except OSError as exc:
        raise CommandError(f"{target} cannot be written: {exc.strerror}") from exc
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    # There is no way to ask for it without setting it.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
