"""What nameko-events tells the framework about itself."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

import nameko.events
from nameko.events import EventDispatcher, EventHandler, EventHandlerConfigurationError, _plugin
from nameko.standalone.events import event_dispatcher, get_event_exchange

Eventually = Callable[..., Any]


def test_extensions_are_listed_with_their_help() -> None:
    assert {info.cls for info in _plugin.nameko_extensions()} == {EventHandler, EventDispatcher}
    assert all(info.help for info in _plugin.nameko_extensions())


def test_configuration_keys_are_declared() -> None:
    keys = {key.name: (key.type, key.default) for key in _plugin.nameko_config_keys()}
    assert keys == {"DECLARE_EVENT_EXCHANGES": ("bool", True), "AUTO_DELETE_EVENT_EXCHANGES": ("bool", False)}


def test_shell_dispatches_events(
    broker_config: dict[str, Any], start: Callable[..., Any], eventually: Eventually
) -> None:
    received = []

    class Warehouse:
        name = "warehouse"

        @nameko.events.event_handler("shop", "sold")
        def restock(self, payload: Any) -> None:
            received.append(payload)

    with ExitStack() as stack:
        names = _plugin.nameko_shell_namespace(broker_config, stack)
        start(Warehouse)  # only now: the shell opens without a broker
        names["dispatch_event"]("shop", "sold", 1)
        stack.close()
        names["dispatch_event"]("shop", "sold", 2)
    eventually(lambda: received == [1, 2])


@pytest.mark.parametrize("name", nameko.events.__all__)
def test_public_names_live_where_users_find_them(name: str) -> None:
    value = getattr(nameko.events, name)
    assert getattr(value, "__module__", "nameko.events") in (
        "nameko.events",
        "nameko.standalone.events",
        "nameko.extensions",
    )
    if isinstance(value, type):
        assert pickle.loads(pickle.dumps(value)) is value


def test_what_there_is_not_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="no_such_name"):
        from nameko.events import no_such_name  # noqa: F401


def test_classes_are_public() -> None:
    for cls in (EventHandler, EventDispatcher, EventHandlerConfigurationError):
        assert cls.__module__ == "nameko.events"
    assert get_event_exchange.__module__ == event_dispatcher.__module__ == "nameko.standalone.events"


def test_plugin_is_loaded_without_what_it_offers() -> None:
    code = "import sys, nameko.events._plugin; print(*{'kombu', 'amqp', 'eventlet'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.strip() == ""
