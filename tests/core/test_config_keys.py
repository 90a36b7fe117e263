from __future__ import annotations

import pytest

from nameko.config_keys import CORE_KEYS, check_types, declared_keys, has_type, suggestions
from nameko.exceptions import ConfigurationError
from nameko.plugins import ConfigKey, Selection, find_plugins
from nameko.plugins import PluginManager as Manager


@pytest.mark.parametrize(
    ("type_words", "good", "bad"),
    [
        ("str", ["", "x"], [1, b"x", [], True]),
        ("int", [0, 5], [1.5, "5", True, False]),
        ("float", [0, 1.5], ["1.5", True]),
        ("seconds", [0, 1.5], ["1.5", True]),
        ("bytes", [0, 5], [1.5, b"5"]),
        ("bool", [True, False], [0, 1, "true"]),
        ("mapping", [{}, {"a": 1}], [[], "a"]),
        ("list", [[], (1, "a")], ["a", {}]),
        ("list of str", [[], ["a"]], ["a", ["a", 1], {}]),
        ("bool or mapping", [True, {}], [1, "x", []]),
        ("int or list of int", [1, [1, 2]], ["1", ["1"]]),
        ("dotted path", ["x", 1, []], []),
    ],
)
def test_types(type_words: str, good: list[object], bad: list[object]) -> None:
    assert [value for value in good if not has_type(value, type_words)] == []
    assert [value for value in bad if has_type(value, type_words)] == []
    assert has_type(None, type_words)


def test_a_value_of_the_wrong_type_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_types({"max_workers": "canary"}, declared_keys([]))
    assert str(caught.value).startswith("configuration key 'max_workers' must be of type int, not str")
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("type_words", ["list of str", "bool or list of str"])
def test_an_item_of_the_wrong_type_is_told(type_words: str) -> None:
    keys = declared_keys([ConfigKey("HOSTS", type_words, None, "Help.")])
    with pytest.raises(ConfigurationError) as caught:
        check_types({"HOSTS": ["canary", 5]}, keys)
    assert str(caught.value) == (
        f"configuration key 'HOSTS' must be of type {type_words}, not list whose item 2 is int: Help."
    )


def test_keys_that_nobody_declares_are_the_services_own() -> None:
    check_types({"DB_URIS": object()}, declared_keys([]))


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("max_worker", "max_workers"),
        ("MAX_WORKERS", "max_workers"),
        ("max-workers", "max_workers"),
        ("HEART_BEAT", "HEARTBEAT"),
        ("max_workers", None),
        ("DB_URIS", None),
        ("colour", None),
    ],
)
def test_suggestions(key: str, meant: str | None) -> None:
    keys = declared_keys([ConfigKey("HEARTBEAT", "seconds", 60, "Help.")])
    assert suggestions({key: 1}, keys).get(key) == meant


def test_the_first_declaration_of_a_key_counts() -> None:
    first, second = ConfigKey("K", "int", 1, "First."), ConfigKey("K", "str", "", "Second.")
    assert declared_keys([first, second])["K"] is first
    assert declared_keys([ConfigKey("max_workers", "str", "", "Other.")])["max_workers"] in CORE_KEYS


def test_the_defaults_of_what_is_installed_have_the_declared_type() -> None:
    names = [info.name for info in find_plugins(Selection())]
    assert {"amqp", "events", "http", "rpc", "timer"} <= set(names)
    keys = declared_keys(Manager.load(Selection()).config_keys()).values()
    assert [key.name for key in keys if not has_type(key.default, key.type)] == []
    assert [key.name for key in keys if not key.help] == []
