"""How spans end: with success, with an exception that was to be expected, or in error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span, Status, StatusCode

from nameko.exceptions import RemoteError, serialize
from nameko.utils import get_redacted_args

if TYPE_CHECKING:
    from nameko.extensions import Entrypoint

_MAX_ARGUMENTS_LENGTH = 2048


def record_exception(span: Span, exc: BaseException, *, is_error: bool) -> None:
    """Record an exception as an event of the span.

    :param is_error: whether the span's status becomes ERROR; not for one that was to be expected
    """
    span.set_attribute("error.type", _type_name(exc))
    if is_error:
        text = serialize(exc)["value"]  # of an exception whose `__str__` raises too
        span.set_status(Status(StatusCode.ERROR, f"{_type_name(exc)}: {text}"))
    span.record_exception(exc)


def _type_name(exc: BaseException) -> str:
    if isinstance(exc, RemoteError):
        return str(exc.exc_type)
    cls = type(exc)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def describe_arguments(entrypoint: Entrypoint, args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    """The arguments of a call as JSON, without those that are sensitive, and no longer than 2048 characters.

    Of what JSON cannot express, such as a request, only the type is told.
    """
    try:
        named = get_redacted_args(entrypoint, *args, **kwargs)
        text = json.dumps(named, default=lambda value: f"<{type(value).__name__}>", skipkeys=True)
    except (TypeError, ValueError, RecursionError) as exc:  # which the method will raise, or cycles in the data
        return f"<{type(exc).__name__}>"
    return text[:_MAX_ARGUMENTS_LENGTH]
