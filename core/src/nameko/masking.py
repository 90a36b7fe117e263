"""Hiding secrets in what is printed: values of telling keys, and passwords in URIs."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

MASK = "********"

_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|pwd|(?<![a-z])(?:pass|pw)(?![a-z])|secret|token|key|credential", re.IGNORECASE
)
# The password of `scheme://user:password@host`. One that holds an unescaped @ or / ends at the last @ of the word.
_URI_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.\-]*://[^\s:/@]*:)[^\s]*(?=@)", re.IGNORECASE)
_QUERY_PASSWORD = re.compile(r"([?&;][^=&\s]*(?:password|passwd|secret|token|key)[^=&\s]*=)[^&\s]*", re.IGNORECASE)
_URI = re.compile(r"[a-z][a-z0-9+.\-]*://", re.IGNORECASE)


def mask_text(text: str) -> str:
    """`text` with the passwords of URIs in it hidden."""
    return _QUERY_PASSWORD.sub(rf"\1{MASK}", _URI_PASSWORD.sub(rf"\1{MASK}", text))


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
    if isinstance(value, str) and (not hide or _URI.match(value)):
        return mask_text(value)
    return MASK if hide and value is not None else value
