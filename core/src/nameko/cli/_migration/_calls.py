"""Calls in the source: arguments that mean something else or nothing now."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nameko.cli._migration._names import full_name, last_name

#: The key of nameko-rpc for how long a call takes at most.
RPC_TIMEOUT = "RPC_TIMEOUT"

#: Extensions and proxies whose arguments are looked at.
_USERS = frozenset(
    [
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
    ]
)
#: Standalone clients, and which of their arguments is the timeout, when it is given by position.
_STANDALONE = {"ClusterRpcClient": 2, "ClusterRpcProxy": 3, "ServiceRpcClient": 3, "ServiceRpcProxy": 4}


@dataclass(frozen=True)
class _Argument:
    # `values`: those that matter, as constants; None: all. `users`: whose argument it is.
    difference: str
    remedy: str
    values: tuple[object, ...] | None = None
    users: frozenset[str] = _USERS


_ARGUMENTS = {
    "sensitive_variables": _Argument("`sensitive_variables` is deprecated", "call it `sensitive_arguments`"),
    "queue": _Argument(
        "`queue` of a `Publisher` is deprecated",
        "pass its exchange as `exchange`, and the queue in `declare`",
        users=frozenset(["Publisher"]),
    ),
    "serializer": _Argument(
        "pickle runs whatever code a message holds, and has to be allowed",
        "set `ALLOW_PICKLE: true` in the configuration, or use another serializer",
        values=("pickle",),
    ),
    "retry": _Argument(
        "`retry` has no effect: a message is sent again until it is confirmed or its time is up",
        "remove it; `timeout` says, in seconds, how long that may take",
        values=(True, False),
    ),
    "retry_policy": _Argument(
        "`retry_policy` has no effect: a message is sent again until it is confirmed or its time is up",
        "remove it; `timeout` says, in seconds, how long that may take",
    ),
    "requeue_on_error": _Argument(
        "after an error the message comes again after a delay that grows, 20 times in all, not at once and for ever",
        "nothing, unless something relies on the immediate retry",
        values=(True,),
    ),
}


def check_call(node: ast.Call, imported: Mapping[str, str], config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What differs about a call, and the remedy.

    :param imported: see `imported_names`
    """
    name = last_name(node.func, imported)
    if full_name(node.func, imported) == "eventlet.monkey_patch":
        yield (
            "the process is monkey patched when a module is imported, too late for what was imported before",
            "remove it: `nameko run`, `shell` and `test` do it first; in scripts, `nameko.concurrency.monkey_patch()`",
        )
    if name == "RpcCall":
        yield "an `RpcCall` is made by its client alone", "call `call_async` of a client"
    if RPC_TIMEOUT not in config and name in _STANDALONE and not _has_timeout(node, _STANDALONE[name]):
        yield (
            f"calls of a `{name}` end with `RpcTimeout` after 300 seconds, rather than wait for ever",
            f"pass `timeout` in seconds, or configure `{RPC_TIMEOUT}`",
        )
    user = "Entrypoint" if name == "decorator" else name
    for keyword in node.keywords:
        yield from _check_argument(user, keyword)


def _has_timeout(node: ast.Call, position: int) -> bool:
    # What is behind `*arguments` and `**options` does not show.
    unpacked = any(isinstance(argument, ast.Starred) for argument in node.args)
    return unpacked or len(node.args) >= position or any(each.arg in ("timeout", None) for each in node.keywords)


def _check_argument(user: str, keyword: ast.keyword) -> Iterator[tuple[str, str]]:
    argument = _ARGUMENTS.get(keyword.arg or "")
    if argument is None or user not in argument.users:
        return
    value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
    if argument.values is None or value in argument.values:
        yield argument.difference, argument.remedy
