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

from nameko.amqp.blocking import BlockingPublisher
from nameko.amqp.publish_options import IN_SECONDS, broker_arguments, check_seconds, unknown_options
from nameko.amqp.serializers import Codecs
from nameko.amqp.settings import AmqpSettings, given_config
from nameko.config import config as global_config
from nameko.constants import PERSISTENT
from nameko.outgoing_calls import OutgoingCall, observers_outside_services

__all__ = ["EventDispatch", "event_dispatcher", "get_event_exchange"]

DECLARE_EVENT_EXCHANGES_CONFIG_KEY = "DECLARE_EVENT_EXCHANGES"
AUTO_DELETE_EVENT_EXCHANGES_CONFIG_KEY = "AUTO_DELETE_EVENT_EXCHANGES"

# What goes to the connection rather than with the message.
_CONNECTION_OPTIONS = ("uri", "ssl", "login_method")


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
    :param publisher_options: those of `nameko.messaging.Publisher`; `exchange`, `routing_key` and what is about
        retries and confirms have no effect, as each event is confirmed. Also `uri`, `ssl` and `login_method`, to use
        instead of what the configuration says
    :raises TypeError: when there is no such option
    :raises ConfigurationError: when the configuration, or an option that is a number of seconds, cannot work
    """
    config = given_config("event_dispatcher()", nameko_config)
    connection_options = {key: publisher_options.pop(key) for key in _CONNECTION_OPTIONS if key in publisher_options}
    settings = AmqpSettings.from_config(config, **connection_options)
    options = _publish_options(publisher_options)
    publisher = BlockingPublisher(
        settings,
        "nameko event dispatcher",
        Codecs.from_config(config, settings),
        declare=publisher_options.get("declare") or (),
    )
    return EventDispatch(publisher, config, options)


def _publish_options(given: Mapping[str, Any]) -> dict[str, Any]:
    if unknown := unknown_options(given):
        raise TypeError(f"event_dispatcher() has no option {unknown}")
    check_seconds("event_dispatcher()", given, IN_SECONDS)
    options = {**broker_arguments(given), "headers": given.get("headers")}
    options.pop("routing_key", None)  # which the service and the type of an event decide, as they do its exchange
    return options


class EventDispatch:
    """Dispatches events from outside of a service; `event_dispatcher` makes it."""

    def __init__(self, publisher: BlockingPublisher, config: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        self._publisher = publisher
        self._config = config
        self._options = options
        self._observers = observers_outside_services(config)
        self._close = weakref.finalize(self, publisher.close)

    def __call__(self, service_name: str, event_type: str, event_data: Any) -> None:
        """Dispatch an event; returns when the broker has it.

        :param service_name: the service whose event it is
        :param event_type: the type of the event
        :param event_data: what the handlers get; anything that the serializer can take
        :raises amqp.exceptions.NotFound: when there is no exchange for events of that service: neither has it, with
            its `EventDispatcher`, ever been started, nor has anything that handles its events
        :raises MessageRefused: when a queue that it goes to is at its limit and refuses it; others may have got it
        :raises PublishTimeout: when the broker does not confirm it in time; it may arrive nevertheless
        :raises UndeliverableMessage: when `mandatory` was asked for and nobody handles such an event
        :raises OSError: when the broker cannot be reached
        """
        exchange = get_event_exchange(service_name, self._config).name
        if not self._observers.observe_calls:
            self._publisher.publish(event_data, exchange=exchange, routing_key=event_type, **self._options)
            return
        with OutgoingCall(self._observers, "event", exchange, event_type, None, self._config) as call:
            headers = {**(self._options.get("headers") or {}), **call.added_headers()}
            options = {**self._options, "headers": headers}
            self._publisher.publish(event_data, exchange=exchange, routing_key=event_type, **options)

    def close(self) -> None:
        """Close the connection. The next call opens another; forgetting the dispatcher closes it too."""
        self._publisher.close()
