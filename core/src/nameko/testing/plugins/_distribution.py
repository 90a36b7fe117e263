"""Throw-away distributions: installed for one test, without pip, and found as every other one is."""

from __future__ import annotations

import importlib
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import MappingProxyType, ModuleType

from nameko.plugins._discovery import ENTRY_POINT_GROUP

_NOTHING: Mapping[str, str] = MappingProxyType({})
_numbers = count()


def write_distribution(
    directory: Path,
    name: str,
    entry_points: Mapping[str, str],
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    modules: Mapping[str, str] = _NOTHING,
) -> None:
    """Write a distribution as pip would leave it: its metadata, and its modules.

    It is installed for whoever has `directory` on the Python path, another process (`PYTHONPATH`) included.

    :param name: the name of the distribution
    :param entry_points: its plugins: `module` or `module:object` by the name of the plugin
    :param requires: what it requires, as in `dependencies` of a `pyproject.toml`
    :param modules: the sources of its modules by their names; indented as a whole if you like
    """
    metadata = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    head = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    _write(metadata / "METADATA", [*head, *(f"Requires-Dist: {each}" for each in requires)])
    items = (f"{plugin} = {target}" for plugin, target in entry_points.items())
    _write(metadata / "entry_points.txt", [f"[{ENTRY_POINT_GROUP}]", *items])
    for module, source in modules.items():
        (directory / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")


@contextmanager
def install_distribution(
    name: str,
    entry_points: Mapping[str, object],
    *,
    version: str = "1.0",
    requires: Sequence[str] = (),
    modules: Mapping[str, str] = _NOTHING,
) -> Iterator[Path]:
    """Have a distribution installed in this process for the length of the block.

    `nameko.plugins.find_plugins` and all that builds on it find it through its entry points. At the end of the block it
    is gone, and so are the modules that were imported from it.

    :param entry_points: its plugins by name: `module` or `module:object` as a string, or the plugin itself, a module or
        an object that carries hook implementations
    :returns: yields the directory that it is installed in
    :raises: see `write_distribution` for the other arguments
    """
    with (
        tempfile.TemporaryDirectory(prefix="nameko-plugin-") as directory,
        _on_path(directory),
        _importable(entry_points) as targets,
    ):
        write_distribution(Path(directory), name, targets, version=version, requires=requires, modules=modules)
        importlib.invalidate_caches()
        yield Path(directory)


@contextmanager
def _on_path(directory: str) -> Iterator[None]:
    sys.path.insert(0, directory)
    try:
        yield
    finally:
        sys.path.remove(directory)
        sys.path_importer_cache.pop(directory, None)
        for module_name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(f"{directory}/"):
                del sys.modules[module_name]


@contextmanager
def _importable(entry_points: Mapping[str, object]) -> Iterator[dict[str, str]]:
    """The target of each entry point; those that are objects stand in a module that is made for the block."""
    module = ModuleType(f"_nameko_plugins_{next(_numbers)}", "Plugins that a test has passed as objects.")
    targets = {}
    for index, (plugin_name, plugin) in enumerate(entry_points.items()):
        if isinstance(plugin, str):
            targets[plugin_name] = plugin
        else:
            setattr(module, f"plugin_{index}", plugin)
            targets[plugin_name] = f"{module.__name__}:plugin_{index}"
    sys.modules[module.__name__] = module
    try:
        yield targets
    finally:
        del sys.modules[module.__name__]
