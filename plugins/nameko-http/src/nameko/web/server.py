"""The web server of a container: what its HTTP entrypoints share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from logging import getLogger
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request

from nameko import concurrency
from nameko.concurrency import Event
from nameko.exceptions import ConfigurationError
from nameko.extensions import ProviderCollector, SharedExtension
from nameko.web._address import BindAddress, parse_address
from nameko.web._body import RequestBody
from nameko.web._connection import Application, serve_wsgi
from nameko.web._environ import Environ
from nameko.web._http_server import HttpServer
from nameko.web._lazy import LazyRequest
from nameko.web._listener import Acceptor, listen
from nameko.web._middleware import wrap
from nameko.web._mounts import Mount
from nameko.web._openapi import OpenApiDocument
from nameko.web._response import ResponseWriter
from nameko.web._routes import Router
from nameko.web._settings import HttpSettings
from nameko.web._werkzeug import send_response
from nameko.wsgi import WsgiApplication

__all__ = ["BindAddress", "HttpOnlyProtocol", "WebServer", "WsgiApp", "parse_address"]

_log = getLogger(__name__)


class HttpOnlyProtocol:
    """Stands for the protocol that the server speaks; `get_wsgi_server` takes one for the sake of nameko 2.14."""


class WebServer(ProviderCollector, SharedExtension):
    """Listens for HTTP requests and hands them to the entrypoints that registered; one for each container.

    To change what it does, override `get_wsgi_app`, `get_wsgi_server`, `make_url_map`, `context_data_from_headers`,
    `process_request` or `bind_addr`, and have an entrypoint of your own use it::

        class MyHandler(HttpRequestHandler):
            server = MyServer()
    """

    def __init__(self) -> None:
        super().__init__()
        self._acceptor: Acceptor | None = None
        self._server: Any = None
        self._bound_address: BindAddress | None = None
        self._open_connections = 0
        self._draining = False
        self._drained = Event()
        self._mounts: dict[str, Mount] = {}

    # -- to be overridden

    @property
    def bind_addr(self) -> BindAddress:
        """Where to listen: `WEB_SERVER_ADDRESS`, by default `127.0.0.1:8000`."""
        return self.settings.address

    def get_wsgi_app(self) -> WsgiApplication:
        """The WSGI application: a `WsgiApp`, or what a subclass wraps around it."""
        return WsgiApp(self)

    def get_wsgi_server(
        self, sock: Any, wsgi_app: WsgiApplication, protocol: type = HttpOnlyProtocol, debug: bool = False
    ) -> Any:
        """What serves connections: has `process_request((sock, address))`, `drain()` and `close()`.

        :param sock: the listening socket
        :param protocol: not used
        :param debug: not used
        """
        return HttpServer(sock, _application(wsgi_app), self.settings)

    def make_url_map(self) -> Map:
        """The routes: the rule of each registered provider, with the provider as its endpoint.

        :raises ConfigurationError: when a rule is not valid
        """
        url_map = Map()
        for provider in self._providers:
            try:
                rule = provider.get_url_rule()
                rule.endpoint = provider
                url_map.add(rule)
            except (ValueError, LookupError, TypeError) as exc:
                where = self._place_of(provider)
                raise ConfigurationError(f"{where}: the URL rule cannot be used: {exc}") from exc
        return url_map

    def _place_of(self, provider: Any) -> str:
        method = getattr(provider, "method_name", None)  # of an entrypoint; the websocket hub has none
        return repr(provider) if method is None else f"{self.container.service_name}.{method}"

    def context_data_from_headers(self, request: Request) -> Mapping[str, Any]:
        """Context data for the worker that serves `request`. None by default: whoever asks is not trusted."""
        return {}

    def process_request(self, sock: Any, address: Any) -> None:
        """Serve one connection until it is closed, in a greenthread of its own.

        :param sock: the connected, non-blocking socket
        :param address: of the peer
        """
        self._server.process_request((sock, address))

    # -- what can be asked of it

    @property
    def settings(self) -> HttpSettings:
        """The settings, from the container's configuration.

        :raises ConfigurationError: when one of them makes no sense
        """
        return HttpSettings.from_config(self.container.config)

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return self._open_connections

    @property
    def bound_address(self) -> BindAddress | None:
        """Where it listens, with the port that it got when it asked for any (port 0); None when it does not listen."""
        return self._bound_address

    @property
    def mounts(self) -> tuple[Mount, ...]:
        """What other extensions have mounted."""
        return tuple(self._mounts.values())

    # -- for other extensions

    def mount(self, path: str, app: WsgiApplication) -> None:
        """Serve a WSGI application at `path` and below it; see `nameko.wsgi.WsgiHost`, which this implements.

        Middleware, CORS and the access log apply to it as to everything. The routing of `WsgiApp` finds it: where
        `get_wsgi_app` is overridden to return something without one, nothing is mounted.

        :raises ValueError: when `path` cannot be one, or something is mounted there already
        :raises RuntimeError: when the server has started
        """
        if self._acceptor is not None:
            raise RuntimeError(f"{path} cannot be mounted any more: the web server has started; do it in `setup()`.")
        if path in self._mounts:
            raise ValueError(f"{path} is taken: something is mounted there already.")
        self._mounts[path] = Mount(path, app)

    # -- life

    def start(self) -> None:
        """Listen and serve.

        :raises ConfigurationError: when it cannot listen where it should, or a setting or a rule makes no sense
        """
        if self._acceptor is not None:
            return
        settings = self.settings
        app = wrap(self.get_wsgi_app(), settings)
        address = self.bind_addr
        sock = listen(address)
        try:
            self._server = self.get_wsgi_server(sock, app)
        except BaseException:
            sock.close()
            raise
        self._bound_address = address if address.unix_path is not None else BindAddress(*sock.getsockname()[:2])
        self._acceptor = Acceptor(sock, self._accept, settings.max_connections, lambda: self._open_connections)
        self._acceptor.start()
        _log.info("%s: listening on %s", self.container.service_name, self._bound_address)

    def unregister_provider(self, provider: Any) -> None:
        """Remove an entrypoint. When the last is gone, the server begins to `drain`."""
        super().unregister_provider(provider)
        if not self._providers:
            self._begin_draining()

    def drain(self) -> None:
        """Take no new connections, and wait for the requests in flight to be answered.

        Idle connections are closed, the others are told to close. What is not done after
        `WEB_SERVER_GRACEFUL_TIMEOUT` is cut off.
        """
        self._begin_draining()
        if self._open_connections and self._server is not None:
            timeout_s = self.settings.graceful_timeout_s
            if self._drained.wait(timeout_s) is None:
                _log.warning("%d connections are cut off: not done in %g s", self._open_connections, timeout_s)
                self._server.close()

    def stop(self) -> None:
        """Wait for the entrypoints, then stop serving."""
        super().stop()
        self.drain()

    def kill(self) -> None:
        """Stop serving at once."""
        self._begin_draining()
        if self._server is not None:
            self._server.close()

    def _begin_draining(self) -> None:
        if not self._draining:
            self._draining = True
            self._bound_address = None
            if self._acceptor is not None:
                self._acceptor.close()
                self._server.drain()

    # -- connections

    def _accept(self, sock: Any, address: Any) -> None:
        self._open_connections += 1
        concurrency.spawn_detached(self._serve_connection, sock, address)

    def _serve_connection(self, sock: Any, address: Any) -> None:
        try:
            self.process_request(sock, address)
        except Exception:
            _log.exception("a connection from %s failed", address)
        finally:
            sock.close()
            self._open_connections -= 1
            if self._draining and not self._open_connections and not self._drained.ready():
                self._drained.send(True)


class WsgiApp:
    """Routes requests to the entrypoints of a server.

    :param server: the server; its `make_url_map` gives the routes
    """

    def __init__(self, server: WebServer) -> None:
        self.server = server
        self.url_map = server.make_url_map()
        settings = server.settings
        self._body_buffer_bytes = settings.body_buffer_bytes
        if settings.openapi_path is not None:
            document = OpenApiDocument(server.container.service_cls, server.container.service_name, self.url_map)
            self.url_map.add(Rule(settings.openapi_path, methods=["GET"], endpoint=document))
        self._router = Router(self.url_map, server.mounts)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as any WSGI application."""
        return self._respond(environ)(environ, start_response)  # type: ignore[no-any-return]

    def serve(self, environ: Environ, writer: ResponseWriter) -> None:
        """Answer a request without going through the WSGI protocol."""
        send_response(self._respond(environ), environ, writer)

    def _respond(self, environ: Environ) -> Any:
        try:
            provider, values = self._router.match(environ)
            body = environ["wsgi.input"]
            if type(body) is RequestBody:
                body.buffer(self._body_buffer_bytes)
            request = LazyRequest(environ, values)
            response = provider.handle_request(request)
            if "files" in request.__dict__:  # uploads, in temporary files
                response.call_on_close(request.close)
            return response
        except HTTPException as exc:
            return exc.get_response(environ)


def _application(app: WsgiApplication) -> Application:
    # Only for the class's own `__call__` is `serve` the same thing.
    if isinstance(app, WsgiApp) and type(app).__call__ is WsgiApp.__call__:
        return app.serve
    return serve_wsgi(app)
