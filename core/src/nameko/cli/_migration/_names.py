"""Names of nameko in the source: those that are gone, and those that are not what they were."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping

from nameko.cli._migration._finding import Difference, note
from nameko.import_failures import describe_import_failure
from nameko.suggestions import did_you_mean

#: What takes the place of names that are gone.
_REPLACEMENTS = {
    "nameko.amqp.consume": "consume with `nameko.amqp.Broker().subscribe(queue, on_message)`, on the extension",
    "nameko.standalone.rpc.PollingQueueConsumer": "consume the queue with `nameko.amqp.blocking.BlockingClient`",
    "nameko.standalone.rpc.ConsumeEvent": "wait with the `result()` of what `call_async` returns",
}
#: Names that are there, but not what they were.
_CHANGED = {
    "nameko.standalone.rpc.SingleThreadedReplyListener": Difference(
        "`SingleThreadedReplyListener` is made with the configuration, not with a timeout, and is no extension",
        "pass `timeout` to the proxy rather than a `reply_listener_cls`",
    ),
}
_GUIDE = "see `Names that differ` in the migration guide"


def check_import(node: ast.Import, guarded: bool) -> Iterator[Difference]:
    """What differs in `import nameko.rpc`.

    :param guarded: whether the code goes on when it fails
    """
    for alias in node.names:
        yield from _check_module(alias.name, guarded)


def check_import_from(node: ast.ImportFrom, guarded: bool) -> Iterator[Difference]:
    """What differs in `from nameko.rpc import rpc`.

    :param guarded: whether the code goes on when it fails
    """
    module = node.module or ""
    yield from _check_module(module, guarded)
    for alias in node.names:
        if alias.name != "*":
            yield from check_name(f"{module}.{alias.name}", guarded)


def check_name(path: str, guarded: bool = False) -> Iterator[Difference]:
    """What differs about the name `path`, with all dots.

    Where the module that it belongs to is what is missing, that has to be asked about by itself.

    :param guarded: whether the code goes on without it
    """
    module_name, _, name = path.rpartition(".")
    if not path.startswith("nameko.") or _import_error(module_name) or not _import_error(path):
        return
    module = importlib.import_module(module_name)
    if not hasattr(module, name):
        remedy = _REPLACEMENTS.get(path) or f"{_GUIDE}{did_you_mean(name, dir(module))}"
        yield _missing(f"`{module_name}` has no `{name}`", remedy, guarded)
    elif path in _CHANGED:
        yield _CHANGED[path]


def _check_module(path: str, guarded: bool) -> Iterator[Difference]:
    if path.startswith("nameko.") and (error := _import_error(path)):
        remedy = _REPLACEMENTS.get(path) or _GUIDE
        yield _missing(f"`{path}` cannot be imported: {describe_import_failure(error)}", remedy, guarded)


def _missing(text: str, remedy: str, guarded: bool) -> Difference:
    if guarded:
        return note(f"{text}, and the code here goes on without it", f"nothing, if that is meant; else, {remedy}")
    return Difference(text, remedy)


def _import_error(path: str) -> ImportError | None:
    try:
        importlib.import_module(path)
    except ImportError as exc:
        return exc
    return None


def dotted(node: ast.expr) -> str:
    """The name that an expression is, with its dots; nothing when it is another kind of expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def imported_names(tree: ast.AST) -> Mapping[str, str]:
    """What import statements bring, by the name in the source: `module.name`, or the module of `import ... as name`."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
    return names


def full_name(node: ast.expr, imported: Mapping[str, str]) -> str:
    """The name that an expression is, with the module that it was imported from."""
    first, dot, rest = dotted(node).partition(".")
    return f"{imported.get(first, first)}{dot}{rest}"


def last_name(node: ast.expr, imported: Mapping[str, str]) -> str:
    """`rpc` of `nameko.rpc.rpc`; nothing for what is of `nameko.amqp.publish`, which is as it was in nameko 2.14."""
    module, _, name = full_name(node, imported).rpartition(".")
    return "" if module == "nameko.amqp.publish" else name
