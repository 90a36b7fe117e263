"""The extensions of nameko-http and its plugin keep what nameko asks of every one."""

from __future__ import annotations

import http.client
from typing import Any

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.testing.plugins import (
    DependencyProviderConformance,
    EntrypointConformance,
    PluginConformance,
    SharedExtensionConformance,
)
from nameko.testing.websocket import make_virtual_socket
from nameko.web import _plugin
from nameko.web.handlers import HttpRequestHandler
from nameko.web.server import WebServer
from nameko.web.websocket import WebSocketHubProvider, WebSocketRpc


class OnFreePort:
    """A web server on a port that the system chooses."""

    def make_config(self) -> dict[str, Any]:
        return {"WEB_SERVER_ADDRESS": "127.0.0.1:0"}


def port_of(container: ServiceContainer) -> int:
    (server,) = [each for each in container.shared_extensions.values() if isinstance(each, WebServer)]
    assert server.bound_address is not None, "the server does not listen"
    return int(server.bound_address.port)


class TestHttp(OnFreePort, EntrypointConformance):
    def make_extension(self) -> HttpRequestHandler:
        return HttpRequestHandler("GET", "/run")

    def trigger(self, container: ServiceContainer) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port_of(container), timeout=10)
        try:
            connection.request("GET", "/run")
            connection.getresponse().read()
        finally:
            connection.close()


class TestWebSocketRpc(OnFreePort, EntrypointConformance):
    def make_extension(self) -> WebSocketRpc:
        return WebSocketRpc()

    def trigger(self, container: ServiceContainer) -> None:
        app, connect = make_virtual_socket("127.0.0.1", port_of(container))
        client = concurrency.spawn_task(app.run_forever)
        try:
            connect().rpc("run")
        finally:
            app.close()
            client.kill()


class TestWebSocketHub(OnFreePort, DependencyProviderConformance):
    def make_extension(self) -> WebSocketHubProvider:
        return WebSocketHubProvider()

    def use(self, dependency: Any) -> None:
        dependency.broadcast("channel", "happened", "data")


class TestWebServer(OnFreePort, SharedExtensionConformance):
    def make_extension(self) -> WebServer:
        return WebServer()


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
