"""What nameko-http tells the plugin manager. Imports nothing heavy: `nameko plugins` reads it too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nameko.plugins import ConfigKey, ExtensionInfo, hookimpl

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer


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
    from nameko.web.server import WebServer

    servers = [extension for extension in container.shared_extensions.values() if isinstance(extension, WebServer)]
    return [
        f"{container.service_name}: the web server does not listen on {server.bind_addr}"
        for server in servers
        if server.bound_address is None
    ]
