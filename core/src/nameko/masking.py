"""Hiding secrets in what is printed: values of telling keys, and passwords in URIs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MASK = "********"

_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|pwd|(?<![a-z])(?:pass|pw)(?![a-z])|secret|token|key|credential", re.IGNORECASE
)
_SCHEME = r"[a-z][a-z0-9+.\-]*://"
_URI = re.compile(_SCHEME, re.IGNORECASE)
# A word with a URI at its beginning, without the punctuation of the text at its end.
_URI_IN_TEXT = re.compile(rf"\b{_SCHEME}\S*?(?=[)\]}}>'\"`,.:;!?]*(?:\s|$))", re.IGNORECASE)
# `user:password@host`, the scheme forgotten or mistyped.
_PASSWORD_IN_TEXT = re.compile(r"(?<![\w/])([\w.+%\-]+:)(?!//)\S+(?=@)")
_BETWEEN_URIS = re.compile(rf"\s*;\s*(?={_SCHEME})", re.IGNORECASE)
# What stands where the port would be and is none, with all that follows: a password, whose host was forgotten.
_NO_PORT = re.compile(r"\A(\[[^\]]*\]:|[^:/?#\[]*:)(?!\d{0,5}(?:[/?#]|$)).*", re.DOTALL)
# What follows a `;` there and is no URI.
_NO_URI = re.compile(r"\A([^;/?#]*;).+", re.DOTALL)
# What stands before the last `@`: a user, what may have been meant for a colon, and the password.
_CREDENTIALS = re.compile(r"\A([^:/?#;@\s]*)(:|[/?#;@\s](?=.)).*", re.DOTALL)
_QUERY_PASSWORD = re.compile(r"([?&;][^=&\s]*(?:password|passwd|secret|token|key)[^=&\s]*=)[^&\s]*", re.IGNORECASE)


def mask_text(text: str) -> str:
    """`text` with the passwords of URIs in it hidden."""
    masked = _URI_IN_TEXT.sub(lambda match: mask_uri(match[0]), text)
    return _mask_query(_PASSWORD_IN_TEXT.sub(rf"\1{MASK}", masked))


def mask_uri(uri: str) -> str:
    """`uri`, or several separated by `;`, with passwords hidden; whatever is not a URI is not shown at all.

    It need not be well-formed: a password may hold anything, unescaped, and in doubt more is hidden than the password.
    """
    if not _URI.match(uri.lstrip()):
        return "<not a URI>"
    return ";".join(map(_mask_one_uri, _BETWEEN_URIS.split(uri.strip())))


def _mask_one_uri(uri: str) -> str:
    # By hand, since this must work for exactly those that cannot be parsed.
    scheme, separator, rest = uri.partition("://")
    credentials, at, place = rest.rpartition("@")
    return scheme + separator + _CREDENTIALS.sub(rf"\1\2{MASK}", credentials) + at + _mask_place(place)


def _mask_place(place: str) -> str:
    for pattern in (_NO_PORT, _NO_URI):
        place = pattern.sub(rf"\1{MASK}", place)
    return _mask_query(place)


def _mask_query(text: str) -> str:
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", text)


def mask_config(config: Mapping[str, Any], secret_keys: Collection[str] = ()) -> dict[str, Any]:
    """A copy of a configuration without its secrets.

    Hidden are the values of keys whose name speaks of a password, secret, token or key, at any depth, and of those
    declared secret; of a URI, only the password.

    :param secret_keys: top-level keys that are declared secret
    """
    return {key: _mask(value, hide=key in secret_keys or _is_secret(key)) for key, value in config.items()}


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and _SECRET_NAME.search(key) is not None


def _mask(value: Any, hide: bool) -> Any:
    if isinstance(value, Mapping):
        return {key: _mask(item, hide or _is_secret(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_mask(item, hide) for item in value]
    if isinstance(value, str) and _URI.match(value.lstrip()):
        return mask_uri(value)
    if isinstance(value, str) and not hide:
        return mask_text(value)
    return MASK if hide and value is not None else value
