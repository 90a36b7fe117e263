"""Redaction of arguments and URLs, for logs."""

from __future__ import annotations

import copy
import inspect
import logging
import re
from collections.abc import Iterable, Mapping, MutableMapping, MutableSequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nameko.suggestions import did_you_mean

if TYPE_CHECKING:
    from nameko.extensions import Entrypoint

_log = logging.getLogger("nameko.utils")

#: Stands for what must not be shown.
REDACTED = "********"

# One step of a path like `name.key[0]`: a key or an index.
_PATH_STEP = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def get_redacted_args(entrypoint: Entrypoint, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """The arguments of a call by parameter name, fit for a log: what the entrypoint calls sensitive is `REDACTED`.

    `sensitive_arguments` is one or several of `"name"`, `"name.key"`, `"name.key[0]"`; what does not match is ignored.
    The values are deep copies. One that cannot be copied is given as it is or, when a part of it is sensitive,
    redacted as a whole.

    :raises TypeError: when the entrypoint's method does not take these arguments
    """
    paths = entrypoint.sensitive_arguments
    redacted = {name: _Copy(value) for name, value in _named_arguments(entrypoint, args, kwargs).items()}
    for path in (paths,) if isinstance(paths, str) else paths:
        steps = _parse_path(path)
        if steps and steps[0] in redacted:
            redacted[steps[0]].redact(steps[1:])
    return {str(name): argument.value for name, argument in redacted.items()}


def warn_of_unmatched(entrypoint: Entrypoint) -> None:
    """Name in the log what the entrypoint calls sensitive and its method does not take: misspelt, it would be shown.

    Not refused, as 2.14 took anything.
    """
    paths = entrypoint.sensitive_arguments
    if not isinstance(paths, Iterable) or not paths:
        return
    try:
        _, *parameters = inspect.signature(_method(entrypoint)).parameters  # the first is `self`
    except (AttributeError, TypeError, ValueError):  # not a method that can be looked at
        return
    for path in (paths,) if isinstance(paths, str) else paths:
        name = str(next(iter(_parse_path(str(path))), ""))
        if name not in parameters:
            _log.warning(
                "%s.%s: %r in sensitive_arguments hides nothing, the method has no such argument%s",
                entrypoint.container.service_name,
                entrypoint.method_name,
                path,
                did_you_mean(name, parameters),
            )


def _method(entrypoint: Entrypoint) -> Any:
    return getattr(entrypoint.container.service_cls, entrypoint.method_name or "")


def _named_arguments(entrypoint: Entrypoint, args: Any, kwargs: Any) -> dict[Any, Any]:
    bound = inspect.signature(_method(entrypoint)).bind(None, *args, **kwargs)  # None stands for `self`
    bound.apply_defaults()
    return dict(list(bound.arguments.items())[1:])


def _parse_path(path: str) -> list[str | int]:
    return [int(index) if index else key for index, key in _PATH_STEP.findall(path)]


class _Copy:
    """A deep copy of an argument, of which parts can be redacted."""

    def __init__(self, value: Any) -> None:
        try:
            self.value = copy.deepcopy(value)
            self._is_copy = True
        except Exception:  # a lock, a socket, a request: it must not be changed then
            self.value = value
            self._is_copy = False

    def redact(self, steps: list[str | int]) -> None:
        self.value = _redact(self.value, steps) if self._is_copy else REDACTED


def _redact(value: Any, steps: list[str | int]) -> Any:
    if not steps:
        return REDACTED
    step: Any = steps[0]
    if isinstance(value, Mapping):
        matches = step in value
    else:
        matches = isinstance(value, (MutableSequence, tuple)) and isinstance(step, int) and step < len(value)
    if not matches:
        return value
    part = _redact(value[step], steps[1:])
    if isinstance(value, tuple):
        return (*value[:step], part, *value[step + 1 :])
    if not isinstance(value, (MutableMapping, MutableSequence)):
        return {**value, step: part}
    value[step] = part
    return value


def sanitize_url(url: str) -> str:
    """`url` with its password, if it has one, replaced by `REDACTED`; in doubt with more than the password."""
    scheme, separator, rest = url.partition("://") if "://" in url else ("", "", url)
    userinfo, at, host = rest.rpartition("@")
    username, colon, password = userinfo.partition(":")
    if not at or not password or _is_web_address(url):
        return url
    return f"{scheme}{separator}{username}{colon}{REDACTED}{at}{host}"


def _is_web_address(url: str) -> bool:
    # `http://host:80/path@home` has no password. But `amqp://user:1/2@host`, not quoted as it should be, has one.
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and "@" not in parts.netloc and parts.port is not None
    except ValueError:
        return False


get_redacted_args.__module__ = sanitize_url.__module__ = "nameko.utils"
