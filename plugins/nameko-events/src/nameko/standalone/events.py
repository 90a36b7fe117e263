"""Dispatching events from outside of a service: from a script, a web application, a shell.

::

    dispatch = event_dispatcher({"AMQP_URI": "pyamqp://guest:guest@localhost"})
    dispatch("shop", "sold", {"article": 42})
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from kombu import Exchange

from nameko import serialization
from nameko.amqp.blocking import BlockingPublisher
from nameko.amqp.settings import AmqpSettings
from nameko.config import config as global_config
from nameko.constants import PERSISTENT

__all__ = ["EventDispatch", "event_dispatcher", "get_event_exchange"]

DECLARE_EVENT_EXCHANGES_CONFIG_KEY = "DECLARE_EVENT_EXCHANGES"
AUTO_DELETE_EVENT_EXCHANGES_CONFIG_KEY = "AUTO_DELETE_EVENT_EXCHANGES"

# What goes to the connection rather than with the message.
_CONNECTION_OPTIONS = ("uri", "ssl", "login_method")
# What decides where an event goes, which its service and its type do already.
_ROUTING_OPTIONS = ("exchange", "routing_key")
# nameko 2.14's ways around unconfirmed publishing: here every event is confirmed, and sent again when that is in doubt.
_RETRY_OPTIONS = ("retry", "retry_policy", "use_confirms")


def get_event_exchange(service_name: str, config: Mapping[str, Any] | None = None) -> Exchange:
    """The exchange that the events of a service go through.

    :param service_name: the service that dispatches
    :param config: configuration keys; the process-wide `nameko.config` when not given
    """
    settings = global_config if config is None else config
    return Exchange(
        f"{service_name}.events",
        type="topic",
        durable=True,
        delivery_mode=PERSISTENT,
        auto_delete=bool(settings.get(AUTO_DELETE_EVENT_EXCHANGES_CONFIG_KEY)),
        no_declare=settings.get(DECLARE_EVENT_EXCHANGES_CONFIG_KEY) is False,
    )


def event_dispatcher(nameko_config: Mapping[str, Any] | None = None, **publisher_options: Any) -> EventDispatch:
    """A function that dispatches events in the name of any service: `dispatch(service_name, event_type, event_data)`.

    It connects when it is first called. No monkey patching is needed, and threads may share it.

    :param nameko_config: configuration keys; the process-wide `nameko.config` when not given
    :param publisher_options: `serializer`, `headers`, `expiration` (seconds), `priority`, `delivery_mode`,
        `compression`, `mandatory`, `timeout_s`, any AMQP property; and `uri`, `ssl` and `login_method` to use instead
        of what the configuration says
    :raises ConfigurationError: when the configuration cannot work
    """
    config = global_config if nameko_config is None else nameko_config
    options = dict(publisher_options)
    connection_options = {key: options.pop(key) for key in _CONNECTION_OPTIONS if key in options}
    for key in (*_ROUTING_OPTIONS, *_RETRY_OPTIONS):
        options.pop(key, None)
    options.setdefault("serializer", serialization.setup(config).serializer)
    if "expiration" in options:
        options["expiration_s"] = options.pop("expiration")
    settings = AmqpSettings.from_config(config, **connection_options)
    return EventDispatch(BlockingPublisher(settings, "nameko event dispatcher"), config, options)


class EventDispatch:
    """Dispatches events from outside of a service; `event_dispatcher` makes it."""

    def __init__(self, publisher: BlockingPublisher, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._publisher = publisher
        self._config = config
        self._options = options
        self._close = weakref.finalize(self, publisher.close)

    def __call__(self, service_name: str, event_type: str, event_data: Any) -> None:
        """Dispatch an event; returns when the broker has it.

        :param service_name: the service whose event it is
        :param event_type: the type of the event
        :param event_data: what the handlers get; anything that the serializer can take
        :raises amqp.exceptions.NotFound: when there is no exchange for events of that service: neither has it, with
            its `EventDispatcher`, ever been started, nor has anything that handles its events
        :raises PublishTimeout: when the broker does not confirm it in time; it may arrive nevertheless
        :raises UndeliverableMessage: when `mandatory` was asked for and nobody handles such an event
        :raises OSError: when the broker cannot be reached
        """
        exchange = get_event_exchange(service_name, self._config)
        self._publisher.publish(event_data, exchange=exchange.name, routing_key=event_type, **self._options)

    def close(self) -> None:
        """Close the connection. The next call opens another; forgetting the dispatcher closes it too."""
        self._publisher.close()
