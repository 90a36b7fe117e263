"""The source: names that are gone, and arguments that mean something else or nothing now."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from nameko.cli._migration._finding import Finding, shown_path
from nameko.import_failures import describe_import_failure
from nameko.suggestions import did_you_mean

#: What takes the place of names that are gone.
_REPLACEMENTS = {
    "nameko.standalone.rpc.PollingQueueConsumer": "consume the queue with `nameko.amqp.blocking.BlockingClient`",
    "nameko.standalone.rpc.ConsumeEvent": "wait with the `result()` of what `call_async` returns",
}
#: Names that are there, but not what they were.
_CHANGED = {
    "nameko.standalone.rpc.SingleThreadedReplyListener": (
        "`SingleThreadedReplyListener` is made with the configuration, not with a timeout, and is no extension",
        "pass `timeout` to the proxy rather than a `reply_listener_cls`",
    ),
}
_GUIDE = "see `Names that differ` in the migration guide"

#: Arguments of extensions and proxies: name, values that matter (None: all), what differs, remedy.
_ARGUMENTS: dict[str, tuple[tuple[object, ...] | None, str, str]] = {
    "sensitive_variables": (None, "`sensitive_variables` is deprecated", "call it `sensitive_arguments`"),
    "serializer": (
        ("pickle",),
        "pickle runs whatever code a message holds, and has to be allowed",
        "set `ALLOW_PICKLE: true` in the configuration, or use another serializer",
    ),
    "retry_policy": (
        None,
        "`retry_policy` has no effect: a message is sent again until it is confirmed or its time is up",
        "remove it; `timeout` says, in seconds, how long that may take",
    ),
    "requeue_on_error": (
        (True,),
        "after an error the message comes again after a delay that grows, not at once",
        "nothing, unless something relies on the immediate retry",
    ),
}
_USERS = {
    "ClusterRpcProxy",
    "Entrypoint",
    "EventDispatcher",
    "Publisher",
    "RpcProxy",
    "ServiceRpcProxy",
    "consume",
    "event_dispatcher",
    "event_handler",
    "http",
    "rpc",
    "timer",
}
#: What a subclass of QueueConsumer has no say in any more.
_FIXED = ("accept", "amqp_uri", "connection")


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


def check_source(path: str) -> Iterator[Finding]:
    """Findings in the Python source at `path`."""
    shown = shown_path(path)
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except (SyntaxError, ValueError) as exc:  # ValueError: null bytes
        place = getattr(exc, "lineno", None) or 0
        yield Finding(shown, place, f"this is not Python: {getattr(exc, 'msg', exc)}", "mend it, then check again")
        return
    for node in ast.walk(tree):
        for difference, remedy in _check_node(node):
            yield Finding(shown, getattr(node, "lineno", 0), difference, remedy)


def _check_node(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        yield from _check_import_from(node)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            yield from _check_name(alias.name)
    elif isinstance(node, ast.Attribute):
        yield from _check_name(_dotted(node))
    elif isinstance(node, ast.Call):
        yield from _check_call(node)
    elif isinstance(node, ast.ClassDef):
        yield from _check_class(node)


# -- names


def _check_import_from(node: ast.ImportFrom) -> Iterator[tuple[str, str]]:
    for alias in node.names:
        if alias.name != "*":
            yield from _check_name(f"{node.module}.{alias.name}")


def _check_name(path: str) -> Iterator[tuple[str, str]]:
    module_name, _, name = path.rpartition(".")
    if not path.startswith("nameko.") or _is_module(path):
        return
    try:
        module = importlib.import_module(module_name)
    except ImportError as exc:
        if not _belongs_to_a_class(module_name):
            yield f"`{module_name}` cannot be imported: {describe_import_failure(exc)}", _GUIDE
        return
    if not hasattr(module, name):
        remedy = _REPLACEMENTS.get(path) or f"{_GUIDE}{did_you_mean(name, dir(module))}"
        yield f"`{module_name}` has no `{name}`", remedy
    elif path in _CHANGED:
        yield _CHANGED[path]


def _is_module(path: str) -> bool:
    try:
        importlib.import_module(path)
    except ImportError:
        return False
    return True


def _belongs_to_a_class(path: str) -> bool:
    # The `nameko.rpc.Rpc` of `nameko.rpc.Rpc.decorator` is no module; it is looked at by itself.
    return _is_module(path.rpartition(".")[0])


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


# -- calls and classes


def _check_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    called = _dotted(node.func)
    if called in ("eventlet.monkey_patch", "monkey_patch"):
        yield (
            "the process is monkey patched when a module is imported, too late for what was imported before",
            "remove it: `nameko run`, `shell` and `test` do it first; in scripts, `nameko.concurrency.monkey_patch()`",
        )
    if called.rpartition(".")[2] in _USERS or called.endswith(".decorator"):
        for keyword in node.keywords:
            yield from _check_argument(keyword)


def _check_argument(keyword: ast.keyword) -> Iterator[tuple[str, str]]:
    values, difference, remedy = _ARGUMENTS.get(keyword.arg or "", ((), "", ""))
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    if values is None or value in values:
        yield difference, remedy


def _check_class(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    if not any(_dotted(base).rpartition(".")[2] == "QueueConsumer" for base in node.bases):
        return
    for name in _defined_names(node):
        if name in _FIXED:
            yield (
                f"`{node.name}.{name}` has no effect: all consumers share the connection to the broker of `AMQP_URI`",
                "configure the broker with `AMQP_URI` and what it accepts with `ACCEPT`",
            )


def _defined_names(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name
        elif isinstance(statement, ast.Assign):
            yield from (target.id for target in statement.targets if isinstance(target, ast.Name))
