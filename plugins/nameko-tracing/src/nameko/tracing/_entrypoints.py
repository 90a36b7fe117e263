"""What is known about an entrypoint's spans before any worker: name, kind and attributes.

The semantic conventions are those of https://opentelemetry.io/docs/specs/semconv/ for RPC, messaging (RabbitMQ) and
HTTP. Entrypoint classes are told by their names, as this package requires none of the distributions they are in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import SpanKind

from nameko.tracing._settings import is_enabled, is_excluded, records_arguments

if TYPE_CHECKING:
    from nameko.extensions import Entrypoint

HTTP_HANDLER = "nameko.web.handlers.HttpRequestHandler"


@dataclass(frozen=True)
class Description:
    """The spans of one entrypoint.

    :param enabled: whether there is any tracing
    :param excluded: whether it gets no spans of its own
    :param is_http: whether it answers HTTP requests
    """

    name: str
    kind: SpanKind
    attributes: Mapping[str, Any] = field(default_factory=dict)
    enabled: bool = True
    excluded: bool = False
    is_http: bool = False
    records_arguments: bool = False


def describe(entrypoint: Entrypoint) -> Description:
    """The spans of a bound entrypoint, as its container's configuration wants them."""
    config = entrypoint.container.config
    service, method = entrypoint.container.service_name, str(entrypoint.method_name)
    class_name = _known_class(entrypoint)
    name, kind, of_kind = _DESCRIBE.get(class_name, _other)(entrypoint, service, method)
    of_all = {"nameko.service": service, "nameko.method": method, "nameko.entrypoint": type(entrypoint).__name__}
    return Description(
        name,
        kind,
        {**of_all, **of_kind},
        enabled=is_enabled(config),
        excluded=is_excluded(config, f"{service}.{method}"),
        is_http=class_name == HTTP_HANDLER,
        records_arguments=records_arguments(config),
    )


def base_named(cls: type, names: Any) -> type | None:
    """The first class in the line of `cls` whose full name is in `names`."""
    return next((base for base in cls.__mro__ if f"{base.__module__}.{base.__qualname__}" in names), None)


def _known_class(entrypoint: Entrypoint) -> str:
    base = base_named(type(entrypoint), _DESCRIBE)
    return f"{base.__module__}.{base.__qualname__}" if base is not None else ""


_Parts = tuple[str, SpanKind, dict[str, Any]]


def _rpc(entrypoint: Any, service: str, method: str) -> _Parts:
    return f"{service}/{method}", SpanKind.SERVER, rpc_attributes(service, method)


def _websocket(entrypoint: Any, service: str, method: str) -> _Parts:
    attributes = {**rpc_attributes(service, method), "network.protocol.name": "websocket"}
    return f"{service}/{method}", SpanKind.SERVER, attributes


def _http(entrypoint: Any, service: str, method: str) -> _Parts:
    return entrypoint.url, SpanKind.SERVER, {"http.route": entrypoint.url}


def _event(entrypoint: Any, service: str, method: str) -> _Parts:
    return _consumed(f"{entrypoint.source_service}.events", entrypoint.event_type)


def _consumer(entrypoint: Any, service: str, method: str) -> _Parts:
    return _consumed("", entrypoint.queue.name)


def _consumed(exchange: str, routing_key: str) -> _Parts:
    attributes = messaging_attributes(exchange, routing_key, "process")
    return f"process {attributes['messaging.destination.name']}", SpanKind.CONSUMER, attributes


def _timer(entrypoint: Any, service: str, method: str) -> _Parts:
    return f"{service}.{method}", SpanKind.INTERNAL, {"nameko.timer.interval_s": entrypoint.interval}


def _other(entrypoint: Any, service: str, method: str) -> _Parts:
    return f"{service}.{method}", SpanKind.INTERNAL, {}


_DESCRIBE: dict[str, Callable[[Any, str, str], _Parts]] = {
    "nameko.rpc.Rpc": _rpc,
    "nameko.web.websocket.WebSocketRpc": _websocket,
    HTTP_HANDLER: _http,
    "nameko.events.EventHandler": _event,
    "nameko.messaging.Consumer": _consumer,
    "nameko.timer.Timer": _timer,
}


def rpc_attributes(service: str, method: str) -> dict[str, Any]:
    """The attributes of a request, at either end."""
    return {"rpc.system": "nameko", "rpc.service": service, "rpc.method": method}


def messaging_attributes(exchange: str, routing_key: str, operation: str) -> dict[str, Any]:
    """The attributes of an event or a message, at either end.

    :param exchange: its name; empty for the default exchange
    :param routing_key: the routing key or, at the default exchange, the name of the queue
    :param operation: `send` or `process`
    """
    return {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": ":".join(filter(None, (exchange, routing_key))) or "amq.default",
        "messaging.rabbitmq.destination.routing_key": routing_key,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
    }
