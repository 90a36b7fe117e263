"""Context data as message headers, and back: what travels with a call from service to service."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nameko.amqp._retry_wire import EXCHANGE, without_marks
from nameko.constants import (
    AUTH_TOKEN_CONTEXT_KEY,
    CALL_ID_STACK_CONTEXT_KEY,
    HEADER_PREFIX,
    LANGUAGE_CONTEXT_KEY,
    USER_AGENT_CONTEXT_KEY,
    USER_ID_CONTEXT_KEY,
)

if TYPE_CHECKING:
    from nameko.containers import WorkerContext

_log = logging.getLogger(__name__)

#: So much of a message's headers becomes context data; what is beyond is dropped. Anybody who can publish decides what
#: is in there, and it would travel on with every call that the worker makes.
MAX_HEADERS_BYTES = 8 * 1024
#: So many of the latest call ids are kept.
MAX_CALL_IDS = 100

# For each level and item of a table or array beside its contents; AMQP's own overhead is about that.
_OVERHEAD_BYTES = 8
_MAX_DEPTH = 20


def encode_to_headers(data: Mapping[str, Any], prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """The headers for context data: `user_id` becomes `nameko.user_id`.

    A value of None is left out, with a `UserWarning`, as AMQP peers differ in what they make of it.
    """
    headers = {f"{prefix}.{key}": value for key, value in data.items() if value is not None}
    if len(headers) < len(data):
        missing = sorted(key for key, value in data.items() if value is None)
        warnings.warn(f"Context data that is None is not sent: {', '.join(missing)}.", UserWarning, stacklevel=2)
    return headers


def decode_from_headers(headers: Mapping[Any, Any] | None, prefix: str = HEADER_PREFIX) -> dict[str, Any]:
    """The context data in the headers of a message.

    Every header is taken, without the prefix where it has one; a prefixed one goes before one that is not. What is
    not of the type that it must have, and what exceeds `MAX_HEADERS_BYTES` in all, is dropped, with a warning in the
    log. So is, without one, what retrying a message has added to its headers. Never raises.
    """
    if not headers:
        return {}
    if EXCHANGE in headers:  # it was tried before
        headers = without_marks(headers)
    data: dict[str, Any] = {}
    dropped: list[str] = []
    remaining = MAX_HEADERS_BYTES
    for key, value, name in _in_order(headers, prefix):
        if key in data:
            continue
        if not _TYPES.get(key, _is_anything)(value):
            dropped.append(name)
            continue
        if key == CALL_ID_STACK_CONTEXT_KEY:
            value = value[-MAX_CALL_IDS:]
        size = len(key) + _size(value, remaining, _MAX_DEPTH)
        if size > remaining:
            dropped.append(name)
            continue
        remaining -= size
        data[key] = value
    if dropped:
        _log.warning(
            "ignored headers of a message, of a wrong type or beyond %d bytes: %s",
            MAX_HEADERS_BYTES,
            ", ".join(name[:50] for name in dropped[:10]),
        )
    return data


def _in_order(headers: Mapping[Any, Any], prefix: str) -> list[tuple[str, Any, str]]:
    # The prefixed ones first: what nameko itself has sent.
    prefix = f"{prefix}."
    start = len(prefix)
    own: list[tuple[str, Any, str]] = []
    foreign: list[tuple[str, Any, str]] = []
    for name, value in headers.items():
        if not isinstance(name, str):  # bytes that are no text: no key that anybody could ask for
            continue
        if name.startswith(prefix):
            own.append((name[start:], value, name))
        else:
            foreign.append((name, value, name))
    return own + foreign if foreign else own


def _is_anything(value: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_text_or_number(value: Any) -> bool:
    return isinstance(value, (str, int))


_TYPES: dict[str, Callable[[Any], bool]] = {
    CALL_ID_STACK_CONTEXT_KEY: _is_list_of_text,
    AUTH_TOKEN_CONTEXT_KEY: _is_text,
    LANGUAGE_CONTEXT_KEY: _is_text,
    USER_AGENT_CONTEXT_KEY: _is_text,
    USER_ID_CONTEXT_KEY: _is_text_or_number,
}


def _size(value: Any, limit: int, depth: int) -> int:
    """About how many bytes `value` takes; more than `limit`, whatever exactly, as soon as that is clear."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, (bytes, bytearray)):
        return len(value)
    if not isinstance(value, (list, tuple, dict)):
        return _OVERHEAD_BYTES
    if depth == 0:
        return limit + 1
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    total = _OVERHEAD_BYTES
    for item in items:
        total += _OVERHEAD_BYTES + _size(item, limit, depth - 1)
        if total > limit:
            break
    return total


class HeaderEncoder:
    """Makes the headers of messages that a worker sends; override to send something else."""

    header_prefix: str = HEADER_PREFIX

    def get_message_headers(self, worker_ctx: WorkerContext) -> dict[str, Any]:
        """The worker's context data as headers."""
        return encode_to_headers(worker_ctx.context_data, self.header_prefix)


class HeaderDecoder:
    """Reads the headers of messages that start a worker; override to read something else."""

    header_prefix: str = HEADER_PREFIX

    def unpack_message_headers(self, message: Any) -> dict[str, Any]:
        """The worker's context data from the headers of `message`."""
        return decode_from_headers(message.headers, self.header_prefix)
