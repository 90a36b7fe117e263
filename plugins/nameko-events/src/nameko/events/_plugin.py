"""What nameko-events tells the framework about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from nameko.plugins import ConfigKey, ExtensionInfo, hookimpl


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The entrypoint and the dependency."""
    from nameko.events import EventDispatcher, EventHandler

    return [
        ExtensionInfo(EventHandler, "@event_handler: runs a method for each event of a type that a service dispatches"),
        ExtensionInfo(
            EventDispatcher, "injects dispatch(event_type, event_data), which publishes the service's events"
        ),
    ]


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """How event exchanges are declared."""
    return [
        ConfigKey(
            "DECLARE_EVENT_EXCHANGES",
            "bool",
            True,
            "Declare event exchanges; with false they must be there already, made by somebody who may.",
        ),
        ConfigKey(
            "AUTO_DELETE_EVENT_EXCHANGES",
            "bool",
            False,
            "Let the broker delete an event exchange when the last queue is unbound from it.",
        ),
    ]


@hookimpl
def nameko_shell_namespace(config: Mapping[str, Any], exit_stack: ExitStack) -> Mapping[str, Any]:
    """`n.dispatch_event(service_name, event_type, event_data)`."""
    from nameko.standalone.events import event_dispatcher

    dispatch = event_dispatcher(config)
    exit_stack.callback(dispatch.close)
    return {"dispatch_event": dispatch}
