"""Calls in the source: arguments that mean something else or nothing now."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nameko.cli._migration._finding import Difference, note
from nameko.cli._migration._names import full_name, last_name

#: The key of nameko-rpc for how long a call takes at most.
RPC_TIMEOUT = "RPC_TIMEOUT"
#: The key of nameko-amqp that allows pickle.
ALLOW_PICKLE = "ALLOW_PICKLE"
_ACCEPT_COMPRESSION = "ACCEPT_COMPRESSION"
_RETRY_ATTEMPTS = "RETRY_ATTEMPTS"
_RPC_EXPIRE_REQUESTS = "RPC_EXPIRE_REQUESTS"

# Extensions and clients whose arguments are looked at.
_CALLERS = frozenset(
    [
        "ClusterRpc",
        "ClusterRpcClient",
        "ClusterRpcProxy",
        "RpcProxy",
        "ServiceRpc",
        "ServiceRpcClient",
        "ServiceRpcProxy",
    ]
)
_PUBLISHERS = _CALLERS | {"EventDispatcher", "Publisher", "event_dispatcher"}
_ENTRYPOINTS = frozenset(["Entrypoint", "consume", "event_handler", "http", "rpc", "timer"])
# Standalone clients, and which of their arguments is the timeout, when it is given by position.
_STANDALONE = {"ClusterRpcClient": 2, "ClusterRpcProxy": 3, "ServiceRpcClient": 3, "ServiceRpcProxy": 4}
# Which argument `requeue_on_error` is, when it is given by position.
_REQUEUE_ON_ERROR = {"consume": 2, "event_handler": 5}
_UNTIL_CONFIRMED = "a message is sent again until it is confirmed or its time is up"
_USE_TIMEOUT = "`timeout` says, in seconds, how long that may take"

_ArgumentCheck = Callable[[ast.expr, Mapping[str, Any]], Difference | None]


def _sensitive_variables(value: ast.expr, config: Mapping[str, Any]) -> Difference:
    return note(
        "`sensitive_variables` is deprecated, as it was in nameko 2.14",
        "call it `sensitive_arguments` when you get to it",
    )


def _queue(value: ast.expr, config: Mapping[str, Any]) -> Difference:
    return note(
        "`queue` of a `Publisher` is deprecated, as it was in nameko 2.14",
        "pass its exchange as `exchange`, and the queue in `declare`, when you get to it",
    )


def _serializer(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    if _constant(value) != "pickle" or config.get(ALLOW_PICKLE) is True:
        return None
    return Difference(
        "pickle runs whatever code a message holds, and has to be allowed",
        f"set `{ALLOW_PICKLE}: true` in the configuration, or use another serializer",
    )


def _retry(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    if _is_none(value):
        return None
    text = f"`retry` has no effect: {_UNTIL_CONFIRMED}"
    if _constant(value) is True:
        return note(text, f"nothing: it may be removed; {_USE_TIMEOUT}")
    return Difference(text, f"remove it, and mind that a message may arrive twice; {_USE_TIMEOUT}")


def _retry_policy(value: ast.expr, config: Mapping[str, Any]) -> Difference:
    return note(f"`retry_policy` has no effect: {_UNTIL_CONFIRMED}", f"nothing: it may be removed; {_USE_TIMEOUT}")


def compression(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    """What differs about `compression` of what publishes, as an argument or on a subclass."""
    if _is_none(value) or config.get(_ACCEPT_COMPRESSION) is not None:
        return None
    return Difference(
        "services of nameko 3 refuse compressed messages, and an event that they refuse is lost",
        f"set `{_ACCEPT_COMPRESSION}: [gzip]`, or whichever it is, here and for all who get these messages",
    )


def _use_confirms(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    if _constant(value) is not False:
        return None
    return note(
        "`use_confirms` has no effect on calls: a request is always confirmed, and one to a service that is not there "
        "ends with `UnknownService`",
        "nothing: it may be removed",
    )


def _requeue_on_error(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    if isinstance(value, ast.Constant) and not value.value:
        return None
    attempts = config.get(_RETRY_ATTEMPTS)
    text = (
        "after an error the message comes again after a delay that grows, {} times in all, and is then parked in "
        "`<queue>.dead`; not at once and for ever"
    )
    if attempts is None:
        return Difference(
            text.format("20"),
            f"set `{_RETRY_ATTEMPTS}` (20 take 13 minutes), and have somebody look after what is parked: "
            "`nameko amqp dead list`",
        )
    return note(text.format(attempts), "nothing, unless something relies on the immediate retry")


# By the name of an argument: whose it is, and what is found in its value.
_ARGUMENTS: Mapping[str, tuple[frozenset[str], _ArgumentCheck]] = {
    "compression": (_PUBLISHERS, compression),
    "queue": (frozenset(["Publisher"]), _queue),
    "requeue_on_error": (_ENTRYPOINTS, _requeue_on_error),
    "retry": (_PUBLISHERS, _retry),
    "retry_policy": (_PUBLISHERS, _retry_policy),
    "sensitive_variables": (_ENTRYPOINTS, _sensitive_variables),
    "serializer": (_PUBLISHERS, _serializer),
    "use_confirms": (_CALLERS, _use_confirms),
}


def check_call(node: ast.Call, imported: Mapping[str, str], config: Mapping[str, Any]) -> Iterator[Difference]:
    """What differs about a call.

    :param imported: see `imported_names`
    """
    name = last_name(node.func, imported)
    path = full_name(node.func, imported)
    if path == "eventlet.monkey_patch":
        yield note(
            "`eventlet.monkey_patch()` does nothing in a service: `nameko run`, `shell` and `test` have done it before",
            "nothing: it may be removed; scripts call `nameko.concurrency.monkey_patch()`",
        )
    if name == "RpcCall":
        yield Difference("an `RpcCall` is made by its client alone", "call `call_async` of a client")
    if config.get(RPC_TIMEOUT) is None and name in _STANDALONE and not _has_timeout(node, _STANDALONE[name]):
        yield Difference(
            f"calls of a `{name}` end with `RpcTimeout` after 300 seconds, rather than wait for ever",
            f"say how long they may take: pass `timeout` in seconds, or configure `{RPC_TIMEOUT}`",
        )
    for argument, value in _arguments(node, name):
        users, check = _ARGUMENTS.get(argument, (frozenset[str](), None))
        user = path.rpartition(".")[2] if check is compression else "Entrypoint" if name == "decorator" else name
        if check is not None and user in users and (difference := check(value, config)):
            yield difference


def _arguments(node: ast.Call, name: str) -> Iterator[tuple[str, ast.expr]]:
    yield from ((keyword.arg, keyword.value) for keyword in node.keywords if keyword.arg)
    position = _REQUEUE_ON_ERROR.get(name, 0)
    if 0 < position <= len(node.args) and not any(isinstance(each, ast.Starred) for each in node.args):
        yield "requeue_on_error", node.args[position - 1]


def check_statement(node: ast.Expr, config: Mapping[str, Any]) -> Iterator[Difference]:
    """What differs about a call whose result nobody looks at."""
    function = node.value.func if isinstance(node.value, ast.Call) else None
    is_call = isinstance(function, ast.Attribute) and function.attr == "call_async"
    if is_call and config.get(_RPC_EXPIRE_REQUESTS) is None:
        yield Difference(
            f"a request that no service takes within `{RPC_TIMEOUT}` is dropped, also where nobody waits for its "
            "result, as here: it does not stay in the queue of a service that is down",
            f"set `{_RPC_EXPIRE_REQUESTS}: false` where it must not be lost, else true; or dispatch an event",
        )


def _has_timeout(node: ast.Call, position: int) -> bool:
    # What is behind `*arguments` and `**options` does not show.
    unpacked = any(isinstance(argument, ast.Starred) for argument in node.args)
    return unpacked or len(node.args) >= position or any(each.arg in ("timeout", None) for each in node.keywords)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
