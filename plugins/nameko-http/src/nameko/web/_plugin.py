"""What nameko-http tells the plugin manager. Imports nothing heavy: `nameko plugins` reads it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nameko.plugins import ConfigKey, ExtensionInfo, Stat, hookimpl

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.web.server import WebServer


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The entrypoint and the dependency providers of this distribution."""
    from nameko.web.handlers import HttpRequestHandler
    from nameko.web.websocket import WebSocketHubProvider, WebSocketRpc

    return [
        ExtensionInfo(HttpRequestHandler, "@http: runs a method for each HTTP request of a URL"),
        ExtensionInfo(WebSocketRpc, "@rpc of nameko.web.websocket: runs a method for each call of a websocket client"),
        ExtensionInfo(WebSocketHubProvider, "Sends events to websocket clients"),
    ]


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """Every key that the web server reads."""
    from nameko.web._settings import KEYS

    return [ConfigKey(key.name, key.type, key.default, key.help) for key in KEYS.values()]


@hookimpl
def nameko_ready(container: ServiceContainer) -> Sequence[str]:
    """A container with HTTP entrypoints is ready when it listens."""
    return [
        f"{container.service_name}: the web server does not listen on {server.bind_addr}"
        for server in _servers(container)
        if server.bound_address is None
    ]


@hookimpl
def nameko_stats(container: ServiceContainer) -> Sequence[Stat]:
    """How many connections are open."""
    open_connections = [server.open_connections for server in _servers(container)]
    if not open_connections:
        return []
    return [Stat("nameko_http_open_connections", "gauge", "Open HTTP connections.", sum(open_connections))]


def _servers(container: ServiceContainer) -> list[WebServer]:
    from nameko.web.server import WebServer

    return [extension for extension in container.shared_extensions.values() if isinstance(extension, WebServer)]
