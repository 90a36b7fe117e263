"""Classes in the source: what a subclass has no say in any more, and clients whose methods hide remote ones."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nameko.cli._migration._calls import compression
from nameko.cli._migration._finding import Difference, Severity
from nameko.cli._migration._names import full_name, last_name
from nameko.containers import ServiceContainer


@dataclass(frozen=True)
class _Ignored:
    # Names that have no effect in a subclass.
    names: tuple[str, ...]
    because: str
    remedy: str
    severity: Severity = Severity.ACTION


_SHARED_CONNECTION = "all consumers of a process share a connection"
_UNTIL_CONFIRMED = "a message is sent again until it is confirmed or its time is up"
_USE_TIMEOUT = "`timeout` says, in seconds, how long that may take"
_RETRIES = (
    _Ignored(("retry",), _UNTIL_CONFIRMED, f"remove it, and mind that a message may arrive twice; {_USE_TIMEOUT}"),
    _Ignored(("retry_policy",), _UNTIL_CONFIRMED, f"nothing: it may be removed; {_USE_TIMEOUT}", Severity.NOTE),
    _Ignored(
        ("use_confirms",),
        "messages are confirmed",
        "nothing: it may be removed; `use_confirms=False` is an argument",
        Severity.NOTE,
    ),
)
#: By the name of the base class.
_IGNORED = {
    "Consumer": (
        _Ignored(
            ("consumer", "consumer_cls"),
            _SHARED_CONNECTION,
            "override `handle_message` or `handle_result`, or consume with `nameko.amqp.Broker().subscribe`",
        ),
    ),
    "EventDispatcher": _RETRIES,
    "Publisher": _RETRIES,
    "QueueConsumer": (
        _Ignored(
            ("accept", "amqp_uri", "connection"),
            f"{_SHARED_CONNECTION}, to the broker of `AMQP_URI`",
            "configure the broker with `AMQP_URI` and what it accepts with `ACCEPT`",
        ),
    ),
    "ReplyListener": (
        _Ignored(
            ("check_for_lost_replies",),
            "lost replies are noticed without",
            "nothing: it may be removed; a call ends with `ReplyLost`",
            Severity.NOTE,
        ),
    ),
    "RpcProxy": _RETRIES,
}
_PUBLISHERS = frozenset(["EventDispatcher", "Publisher", "RpcProxy"])
_OLD_ARGUMENTS = {"self", "entrypoint", "args", "kwargs", "context_data", "handle_result"}
_NEW_ARGUMENTS = inspect.signature(ServiceContainer.spawn_worker).parameters.keys() - _OLD_ARGUMENTS
#: What a client has itself, so that remote methods called like it come as items.
CLIENT_NAMES = frozenset(["call_async", "fully_specified", "identifier", "method_name", "service_name", "with_options"])
_CLIENTS = frozenset(["RpcProxy", "ServiceRpc"])


def check_class(
    node: ast.ClassDef, imported: Mapping[str, str], config: Mapping[str, Any]
) -> Iterator[tuple[int, Difference]]:
    """In which lines something differs in a class, and what.

    :param imported: see `imported_names`
    """
    bases = [last_name(base, imported) for base in node.bases]
    for ignored in (each for base in bases for each in _IGNORED.get(base, ())):
        yield from _check_names(node, ignored)
    if "ServiceContainer" in bases:
        yield from _check_spawn_worker(node)
    if "WebServer" in bases:
        yield from _check_wsgi_server(node)
    if "HttpOnlyProtocol" in bases:
        text = f"`{node.name}` has no effect: the web server is one of nameko's own, not eventlet's"
        yield node.lineno, Difference(text, "do in middleware what it did, or in `WebServer.get_wsgi_app`")
    if not _PUBLISHERS.isdisjoint(full_name(base, imported).rpartition(".")[2] for base in node.bases):
        yield from _check_compression(node, config)
    yield from _check_remote_methods(node, imported)


def _check_names(node: ast.ClassDef, ignored: _Ignored) -> Iterator[tuple[int, Difference]]:
    for line, name in _defined_names(node):
        if name in ignored.names:
            text = f"`{node.name}.{name}` has no effect: {ignored.because}"
            yield line, Difference(text, ignored.remedy, ignored.severity)


def _defined_names(node: ast.ClassDef) -> Iterator[tuple[int, str]]:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.lineno, statement.name
        else:
            yield from ((statement.lineno, name) for name in _assigned_names(statement))


def _assigned_names(statement: ast.stmt) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def _check_wsgi_server(node: ast.ClassDef) -> Iterator[tuple[int, Difference]]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "get_wsgi_server" and not _calls_super(method):
            text = f"what `{node.name}.get_wsgi_server` returns has to be a server like nameko's own, not eventlet's"
            remedy = "return what `super().get_wsgi_server(...)` does; `WEB_SERVER_...` keys and middleware change it"
            yield method.lineno, Difference(text, remedy)


def _calls_super(method: ast.FunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "super" for each in ast.walk(method))


def _check_compression(node: ast.ClassDef, config: Mapping[str, Any]) -> Iterator[tuple[int, Difference]]:
    for statement in node.body:
        value = getattr(statement, "value", None) if "compression" in _assigned_names(statement) else None
        if value is not None and (difference := compression(value, config)):
            yield statement.lineno, difference


def _check_spawn_worker(node: ast.ClassDef) -> Iterator[tuple[int, Difference]]:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "spawn_worker" and method.args.kwarg is None:
            taken = {argument.arg for argument in (*method.args.args, *method.args.kwonlyargs)}
            missing = sorted(_NEW_ARGUMENTS - taken)
            if missing:
                text = f"`{node.name}.spawn_worker` gets keyword arguments that it does not take: {', '.join(missing)}"
                yield method.lineno, Difference(text, "take `**kwargs`, and hand them on")


def _check_remote_methods(node: ast.ClassDef, imported: Mapping[str, str]) -> Iterator[tuple[int, Difference]]:
    declared = [statement for statement in node.body if _is_client(statement, imported)]
    clients = {name for statement in declared for name in _assigned_names(statement)}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and each.attr in CLIENT_NAMES and _of_self(each.value) in clients:
            called = f"self.{_of_self(each.value)}"
            text = f"`{called}.{each.attr}` is of the client itself, not a method of the service that it calls"
            yield each.lineno, Difference(text, f"call the method as `{called}[{each.attr!r}]`")


def _is_client(statement: ast.stmt, imported: Mapping[str, str]) -> bool:
    value = getattr(statement, "value", None)
    return isinstance(value, ast.Call) and last_name(value.func, imported) in _CLIENTS


def _of_self(node: ast.expr) -> str | None:
    # The `other` of `self.other`.
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return node.attr
    return None
