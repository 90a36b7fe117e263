from __future__ import annotations

from collections.abc import Iterator

import pytest

import nameko.config
from nameko import config


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    with config.patch({}, clear=True):
        yield


def test_the_module_is_the_mapping() -> None:
    config["a"] = 1
    assert nameko.config is config
    assert nameko.config.config is config
    assert dict(config) == {"a": 1}


def test_setup_replaces_everything() -> None:
    config["a"] = 1
    values = {"b": 2}
    config.setup(values)
    assert dict(config) == {"b": 2}
    config["c"] = 3
    assert values == {"b": 2}


def test_patch_as_context_manager() -> None:
    config.setup({"a": 1, "b": 1})
    with config.patch({"a": 2}):
        assert dict(config) == {"a": 2, "b": 1}
        with config.patch({"c": 3}, clear=True):
            assert dict(config) == {"c": 3}
        assert dict(config) == {"a": 2, "b": 1}
    assert dict(config) == {"a": 1, "b": 1}


def test_patch_as_decorator() -> None:
    @config.patch({"a": 1})
    def value() -> object:
        return config["a"]

    assert value() == 1
    assert value() == 1
    assert "a" not in config


def test_patch_with_start_and_stop() -> None:
    patch = config.patch({"a": 1})
    patch.start()
    assert config["a"] == 1
    patch.stop()
    assert "a" not in config


def test_patch_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), config.patch({"a": 1}):
        raise ZeroDivisionError
    assert "a" not in config


def test_repr_hides_secrets() -> None:
    shown = repr(type(config)({"AMQP_URI": "pyamqp://user:canary@host", "API_KEY": "canary", "max_workers": 5}))
    assert "canary" not in shown
    assert "pyamqp://user:" in shown
    assert "'max_workers': 5" in shown
