"""Arguments of a declaration (`x-expires` and its like): which are valid, and when two declarations are the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from nameko.amqp.memory._errors import Refused, inequivalent

_TIMER_LIMIT_MS = 2**32 - 1  # Erlang's timers take no more; RabbitMQ refuses what they cannot take

_TYPE_NAMES: dict[type, str] = {
    str: "longstr",
    bytes: "longstr",
    bool: "bool",
    int: "signedint",
    float: "double",
    Decimal: "decimal",
    datetime: "timestamp",
    dict: "table",
    list: "array",
    tuple: "array",
    type(None): "void",
}

# name -> (least value, greatest value)
_INTEGERS: dict[str, tuple[int, float]] = {
    "x-expires": (1, _TIMER_LIMIT_MS),
    "x-message-ttl": (0, _TIMER_LIMIT_MS),
    "x-max-length": (0, float("inf")),
    "x-max-length-bytes": (0, float("inf")),
}
_OVERFLOWS = ("drop-head", "reject-publish", "reject-publish-dlx")
_QUEUE_TYPES = ("classic", "quorum", "stream")
_COMPARED_FOR_QUEUES = (
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
)
_COMPARED_FOR_EXCHANGES = ("alternate-exchange",)


@dataclass(frozen=True)
class QueueArguments:
    """The arguments that make a difference to this broker; times in milliseconds."""

    expires_ms: int | None = None
    message_ttl_ms: int | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    overflow: str = "drop-head"
    dead_letter_exchange: str | None = None
    dead_letter_routing_key: str | None = None

    @classmethod
    def parse(cls, arguments: Mapping[str, Any], queue: str, vhost: str) -> QueueArguments:
        """Read a declaration's arguments; those that RabbitMQ does not know are ignored, as there.

        :raises Refused: when one of them cannot be
        """
        for name in _INTEGERS.keys() & arguments.keys():
            _check_integer(name, arguments[name], queue, vhost)
        for name in ("x-dead-letter-exchange", "x-dead-letter-routing-key"):
            if name in arguments and not isinstance(arguments[name], str):
                found = _type_name(arguments[name])
                raise Refused(406, f"invalid type '{found}' for arg '{name}' in queue '{queue}' in vhost '{vhost}'")
        _check_choices(arguments, queue, vhost)
        return cls(
            expires_ms=arguments.get("x-expires"),
            message_ttl_ms=arguments.get("x-message-ttl"),
            max_length=arguments.get("x-max-length"),
            max_length_bytes=arguments.get("x-max-length-bytes"),
            overflow=arguments.get("x-overflow", "drop-head"),
            dead_letter_exchange=arguments.get("x-dead-letter-exchange"),
            dead_letter_routing_key=arguments.get("x-dead-letter-routing-key"),
        )


def _check_integer(name: str, value: Any, queue: str, vhost: str) -> None:
    least, greatest = _INTEGERS[name]
    if isinstance(value, bool) or not isinstance(value, int):
        problem = f'"expected integer, got {_type_name(value)}"'
    elif value < 0:
        problem = f"{{value_negative,{value}}}"
    elif value < least:
        problem = f"{{value_zero,{value}}}"
    elif value > greatest:
        problem = f"{{value_too_large,{value}}}"
    else:
        return
    raise _invalid(name, queue, vhost, problem)


def _check_choices(arguments: Mapping[str, Any], queue: str, vhost: str) -> None:
    if "x-dead-letter-routing-key" in arguments and "x-dead-letter-exchange" not in arguments:
        raise _invalid("x-dead-letter-routing-key", queue, vhost, "routing_key_but_no_dlx_defined")
    if arguments.get("x-overflow", "drop-head") not in _OVERFLOWS:
        raise _invalid("x-overflow", queue, vhost, "invalid_overflow")
    queue_type = arguments.get("x-queue-type", "classic")
    if queue_type not in _QUEUE_TYPES:
        raise _invalid("x-queue-type", queue, vhost, f"\"unsupported queue type '{queue_type}'\"")


def _invalid(name: str, queue: str, vhost: str, problem: str) -> Refused:
    return Refused(406, f"invalid arg '{name}' for queue '{queue}' in vhost '{vhost}': {problem}")


def check_same_flag(flag: str, received: object, current: object, kind: str, name: str, vhost: str) -> None:
    """Refuse a declaration whose `flag` is not what it is.

    :raises Refused: 406
    """
    if received != current:
        words = [str(value).lower() if isinstance(value, bool) else str(value) for value in (received, current)]
        raise inequivalent(flag, kind, name, vhost, f"received '{words[0]}' but current is '{words[1]}'")


def check_same_arguments(
    received: Mapping[str, Any], current: Mapping[str, Any], kind: str, name: str, vhost: str
) -> None:
    """Refuse a declaration whose arguments are not those of what exists.

    :raises Refused: 406
    """
    for argument in _COMPARED_FOR_QUEUES if kind == "queue" else _COMPARED_FOR_EXCHANGES:
        new, old = received.get(argument), current.get(argument)
        if new == old or (argument == "x-queue-type" and {new, old} == {None, "classic"}):
            continue
        if new is not None and old is not None:
            difference = f"received '{new}' but current is '{old}'"
        else:
            difference = f"received {_described(new)} but current is {_described(old)}"
        raise inequivalent(argument, kind, name, vhost, difference)


def _described(value: Any) -> str:
    return "none" if value is None else f"the value '{value}' of type '{_type_name(value)}'"


def _type_name(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)
