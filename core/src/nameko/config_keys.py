"""Configuration keys: those of the core, and the check of a configuration against all that are declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nameko.constants import (
    ACCEPT_CONFIG_KEY,
    DEFAULT_MAX_WORKERS,
    DEFAULT_PARENT_CALLS_TRACKED,
    DEFAULT_SERIALIZER,
    MAX_WORKERS_CONFIG_KEY,
    PARENT_CALLS_CONFIG_KEY,
    SERIALIZER_CONFIG_KEY,
    SERVICE_CONTAINER_CONFIG_KEY,
)
from nameko.exceptions import ConfigurationError
from nameko.plugins import ConfigKey

CORE_KEYS = (
    ConfigKey(MAX_WORKERS_CONFIG_KEY, "int", DEFAULT_MAX_WORKERS, "How many workers a service runs at once."),
    ConfigKey(
        PARENT_CALLS_CONFIG_KEY,
        "int",
        DEFAULT_PARENT_CALLS_TRACKED,
        "How many ids of the calls that led to a worker it knows, besides its own.",
    ),
    ConfigKey(SERIALIZER_CONFIG_KEY, "str", DEFAULT_SERIALIZER, "The serializer of what is sent."),
    ConfigKey(ACCEPT_CONFIG_KEY, "list of str", None, "The serializers accepted on receipt; `serializer` if unset."),
    ConfigKey(SERVICE_CONTAINER_CONFIG_KEY, "str", None, "Path of the class to use in place of ServiceContainer."),
    ConfigKey("SHUTDOWN_TIMEOUT", "seconds", 30, "How long workers and extensions may take to finish on shutdown."),
    ConfigKey("LOGGING", "mapping", None, "What `logging.config.dictConfig` takes, for `nameko run`."),
    ConfigKey(
        "plugins",
        "mapping",
        None,
        "Which plugins to use: `disable`, `only` and `require` list names, `load` lists modules that are plugins.",
    ),
)

_number = (int, float)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "str": str,
    "int": int,
    "float": _number,
    "seconds": _number,
    "bytes": int,
    "bool": bool,
    "mapping": Mapping,
    "list": (list, tuple),
}

# How alike two keys are, from 0 to 1, for one to be suggested for the other. Services keep keys of their own in the
# same file (DB_URI next to AMQP_URI), which must not be taken for misspelt ones.
_SIMILAR = 0.8


def declared_keys(plugin_keys: Iterable[ConfigKey]) -> dict[str, ConfigKey]:
    """The keys of the core and of plugins by name; of several declarations of one key the first counts."""
    keys: dict[str, ConfigKey] = {}
    for key in (*CORE_KEYS, *plugin_keys):
        keys.setdefault(key.name, key)
    return keys


def check_types(config: Mapping[str, Any], keys: Mapping[str, ConfigKey]) -> None:
    """Check the values of declared keys.

    :raises ConfigurationError: when one is of another type than its declaration says; the message does not show it
    """
    for name, value in config.items():
        key = keys.get(name)
        if key is not None and not has_type(value, key.type):
            found = _describe_type(value, key.type)
            raise ConfigurationError(f"configuration key {name!r} must be of type {key.type}, not {found}: {key.help}")


def has_type(value: Any, type_words: str) -> bool:
    """Whether `value` is what `type_words` say, see `ConfigKey`. None is; where the words say nothing, all is."""
    return value is None or any(_has_one_type(value, words.strip()) for words in type_words.split(" or "))


def _has_one_type(value: Any, words: str) -> bool:
    container, _, item_words = words.partition(" of ")
    expected = _TYPES.get(container)
    if expected is None:
        return True
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):
        return False
    return not (isinstance(value, (list, tuple)) and item_words) or all(
        _has_one_type(item, item_words) for item in value
    )


def _describe_type(value: Any, type_words: str) -> str:
    """The type of a value that is not what `type_words` say; of a list that may be one, the first item that may not."""
    name = type(value).__name__
    for words in type_words.split(" or "):
        _, _, item_words = words.strip().partition(" of ")
        if item_words and isinstance(value, (list, tuple)):
            wrong = (number for number, item in enumerate(value, start=1) if not _has_one_type(item, item_words))
            number = next(wrong)
            return f"{name} whose item {number} is {type(value[number - 1]).__name__}"
    return name


def suggestions(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, str]:
    """The keys of `config` that look like a misspelt one of `keys`, each with the one that is probably meant."""
    import difflib

    by_folded = {_fold(name): name for name in keys}
    names = set(by_folded.values())
    found = {}
    for name in config:
        if name not in names:
            close = difflib.get_close_matches(_fold(name), by_folded, n=1, cutoff=_SIMILAR)
            if close:
                found[name] = by_folded[close[0]]
    return found


def _fold(name: str) -> str:
    return name.lower().replace("-", "_")
