"""Calls in the source: arguments that mean something else or nothing now."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from nameko.cli._migration._finding import Difference, note
from nameko.cli._migration._names import full_name, last_name

#: The key of nameko-rpc for how long a call takes at most.
RPC_TIMEOUT = "RPC_TIMEOUT"
#: The keys of nameko-amqp that allow pickle, and say how often a message that fails is tried.
ALLOW_PICKLE = "ALLOW_PICKLE"
RETRY_ATTEMPTS = "RETRY_ATTEMPTS"

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
#: Standalone clients, and which of their arguments is the timeout, when it is given by position.
_STANDALONE = {"ClusterRpcClient": 2, "ClusterRpcProxy": 3, "ServiceRpcClient": 3, "ServiceRpcProxy": 4}
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
    given = _constant(value)
    if given is None and isinstance(value, ast.Constant):
        return None
    text = f"`retry` has no effect: {_UNTIL_CONFIRMED}"
    if given is True:
        return note(text, f"nothing: it may be removed; {_USE_TIMEOUT}")
    return Difference(text, f"remove it, and mind that a message may arrive twice; {_USE_TIMEOUT}")


def _retry_policy(value: ast.expr, config: Mapping[str, Any]) -> Difference:
    return note(f"`retry_policy` has no effect: {_UNTIL_CONFIRMED}", f"nothing: it may be removed; {_USE_TIMEOUT}")


def _use_confirms(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    if _constant(value) is not False:
        return None
    return note(
        "`use_confirms` has no effect on calls: a request is always confirmed, and one to a service that is not there "
        "ends with `UnknownService`",
        "nothing: it may be removed",
    )


def _requeue_on_error(value: ast.expr, config: Mapping[str, Any]) -> Difference | None:
    if _constant(value) is not True:
        return None
    attempts = config.get(RETRY_ATTEMPTS)
    text = (
        "after an error the message comes again after a delay that grows, {} times in all, and is then parked in "
        "`<queue>.dead`; not at once and for ever"
    )
    if attempts is None:
        return Difference(
            text.format("20"),
            f"set `{RETRY_ATTEMPTS}` (20 take 13 minutes), and have somebody look after what is parked: "
            "`nameko amqp dead list`",
        )
    return note(text.format(attempts), "nothing, unless something relies on the immediate retry")


# By the name of an argument: whose it is, and what is found in its value.
_ARGUMENTS: Mapping[str, tuple[frozenset[str], _ArgumentCheck]] = {
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
    if full_name(node.func, imported) == "eventlet.monkey_patch":
        yield note(
            "`eventlet.monkey_patch()` does nothing here: `nameko run`, `shell` and `test` have done it before",
            "nothing: it may be removed; scripts call `nameko.concurrency.monkey_patch()`",
        )
    if name == "RpcCall":
        yield Difference("an `RpcCall` is made by its client alone", "call `call_async` of a client")
    if config.get(RPC_TIMEOUT) is None and name in _STANDALONE and not _has_timeout(node, _STANDALONE[name]):
        yield Difference(
            f"calls of a `{name}` end with `RpcTimeout` after 300 seconds, rather than wait for ever",
            f"say how long they may take: pass `timeout` in seconds, or configure `{RPC_TIMEOUT}`",
        )
    user = "Entrypoint" if name == "decorator" else name
    for keyword in node.keywords:
        users, check = _ARGUMENTS.get(keyword.arg or "", (frozenset[str](), None))
        if check is not None and user in users and (difference := check(keyword.value, config)):
            yield difference


def _has_timeout(node: ast.Call, position: int) -> bool:
    # What is behind `*arguments` and `**options` does not show.
    unpacked = any(isinstance(argument, ast.Starred) for argument in node.args)
    return unpacked or len(node.args) >= position or any(each.arg in ("timeout", None) for each in node.keywords)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None
