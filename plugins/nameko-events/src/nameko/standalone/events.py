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
from nameko.amqp.publish_options import check_seconds
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
# What decides where an event goes, which its service and its type do already.
_ROUTING_OPTIONS = ("exchange", "routing_key")
# nameko 2.14's ways around unconfirmed publishing: here every event is confirmed, and sent again when that is in doubt.
_RETRY_OPTIONS = ("retry", "retry_policy", "use_confirms")
_IN_SECONDS = ("expiration", "expiration_s", "timeout_s")
# What the publisher takes: how to encode and to send, and AMQP's properties.
_PUBLISH_OPTIONS = frozenset(
    [
        "app_id",
        "compression",
        "correlation_id",
        "delivery_mode",
        "expiration_s",
        "headers",
        "mandatory",
        "message_id",
        "priority",
        "reply_to",
        "serializer",
        "timeout_s",
        "timestamp",
        "type",
        "user_id",
    ]
)


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
    :raises TypeError: when there is no such option
    :raises ConfigurationError: when the configuration, or an option that is a number of seconds, cannot work
    """
    config = given_config("event_dispatcher()", nameko_config)
    connection_options = {key: publisher_options.pop(key) for key in _CONNECTION_OPTIONS if key in publisher_options}
    settings = AmqpSettings.from_config(config, **connection_options)
    publisher = BlockingPublisher(settings, "nameko event dispatcher", Codecs.from_config(config, settings))
    return EventDispatch(publisher, config, _publish_options(publisher_options))


def _publish_options(given: Mapping[str, Any]) -> dict[str, Any]:
    check_seconds("event_dispatcher()", given, _IN_SECONDS)
    meaningless = {*_ROUTING_OPTIONS, *_RETRY_OPTIONS}
    options = {key: value for key, value in given.items() if key not in meaningless and value is not None}
    if "expiration" in options:
        options["expiration_s"] = options.pop("expiration")
    unknown = sorted(options.keys() - _PUBLISH_OPTIONS)
    if unknown:
        raise TypeError(f"event_dispatcher() has no option {', '.join(unknown)}")
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
