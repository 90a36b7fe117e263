"""WSGI applications that extensions of plugins serve on the web server of a service, which knows nothing of it."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from werkzeug.routing import Map, Rule
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from nameko.concurrency import Event
from nameko.containers import ServiceContainer
from nameko.extensions import Extension
from nameko.plugins import PluginManager, hookimpl
from nameko.web._mounts import Mount
from nameko.web._routes import Router
from nameko.web.handlers import http
from nameko.web.server import WebServer
from nameko.wsgi import WsgiHost, wsgi_hosts


class Health(Extension):
    """Answers at `/health` and below with the paths that a WSGI application is to see."""

    hosts: list[WsgiHost]

    def setup(self) -> None:
        self.hosts = wsgi_hosts(self.container)
        for host in self.hosts:
            host.mount("/health", self.answer)

    def answer(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']} {environ['PATH_INFO']}".encode()]


class HealthPlugin:
    @hookimpl
    def nameko_service_extensions(self, service_cls: type, config: Any) -> dict[str, Extension]:
        return {"health": Health()}


class Service:
    name = "service"

    @http("GET", "/hello")
    def hello(self, request: Request) -> str:
        return "hello"


@pytest.fixture
def plugins() -> PluginManager:
    return PluginManager.with_plugins({"health": HealthPlugin()})


@pytest.mark.parametrize(
    ("path", "answer"),
    [("/health", "GET /health "), ("/health/", "GET /health /"), ("/health/live?x", "GET /health /live")],
)
def test_a_mounted_application_answers_at_its_path_and_below(serve, plugins, path, answer):
    service = serve(Service, plugins=plugins)
    for _ in range(2):  # a route is remembered
        assert service.get(path).text == answer
        assert service.get("/hello").text == "hello"
    assert service.get("/health", method="POST", body="x").text == "POST /health "


def test_other_paths_stay_as_they_are(serve, plugins):
    service = serve(Service, plugins=plugins)
    assert [service.get(path).status for path in ("/healthy", "/", "/hello/health")] == [404, 404, 404]
    refused = service.get("/hello", method="POST")
    assert (refused.status, set(refused.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


def test_it_answers_while_all_workers_are_busy(serve, plugins):
    asked, go_on = Event(), Event()

    class Busy:
        name = "busy"

        @http("GET", "/")
        def method(self, request: Request) -> str:
            asked.send(None)
            go_on.wait()
            return "done"

    service = serve(Busy, plugins=plugins, max_workers=1)
    with service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        asked.wait()
        assert service.get("/health").text == "GET /health "
        go_on.send(None)
        assert raw.response().text == "done"


def test_urls_that_the_service_declares_keep_their_meaning(serve, plugins):
    class Own:
        name = "own"

        @http("GET", "/health/<part>")
        def health_of(self, request: Request, part: str) -> str:
            return f"own {part}"

        @http("GET", "/<path:rest>")
        def anything(self, request: Request, rest: str) -> str:
            return f"anything {rest}"

    service = serve(Own, plugins=plugins)
    assert service.get("/health/db").text == "own db"
    assert service.get("/x").text == "anything x"


def test_a_rule_for_anything_hides_no_mount(serve, plugins):
    class CatchAll:
        name = "catch_all"

        @http("GET", "/<path:rest>")
        def anything(self, request: Request, rest: str) -> str:
            return f"anything {rest}"

    service = serve(CatchAll, plugins=plugins)
    assert service.get("/health/live").text == "GET /health /live"
    assert service.get("/healthy").text == "anything healthy"


def test_middleware_and_the_access_log_apply_to_it(serve, plugins, caplog, monkeypatch):
    caplog.set_level("INFO", "nameko.web.access")
    module = types.ModuleType("closing_middleware")
    module.Closed = Closed
    monkeypatch.setitem(sys.modules, module.__name__, module)
    options = {"WEB_SERVER_MIDDLEWARE": ["closing_middleware.Closed"], "WEB_SERVER_ACCESS_LOG": "common"}
    service = serve(Service, plugins=plugins, **options)
    assert service.get("/health").status == 403
    assert '"GET /health HTTP/1.1" 403' in caplog.text


class Closed:
    """Middleware that lets nothing pass."""

    def __init__(self, app: Any) -> None:
        pass

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        return Response("no", status=403)(environ, start_response)


def test_what_it_raises_is_answered_with_an_id(serve, plugins, monkeypatch, caplog):
    monkeypatch.setattr(Health, "answer", lambda *args: 1 / 0)
    service = serve(Service, plugins=plugins)
    answer = service.get("/health")
    assert answer.status == 500
    assert answer.text.rsplit(": ", 1)[1].strip() in caplog.text
    assert "ZeroDivisionError" not in answer.text


def test_a_service_without_http_does_not_begin_to_listen(plugins):
    class Quiet:
        name = "quiet"

    container = ServiceContainer(Quiet, {"WEB_SERVER_ADDRESS": "127.0.0.1:0"}, plugins=plugins)
    container.start()
    (health,) = (each for each in container.extensions if isinstance(each, Health))
    assert health.hosts == []
    assert not any(isinstance(each, WebServer) for each in container.extensions)
    container.stop()


@pytest.mark.parametrize("path", ["health", "/", "", "/health/", "/a//b", "/<x>", "/a b"])
def test_a_path_that_cannot_be_one(path):
    with pytest.raises(ValueError, match="can be mounted at a path like `/health`"):
        WebServer().mount(path, lambda environ, start_response: [])


def test_a_path_is_taken_once():
    server = WebServer()
    server.mount("/health", lambda environ, start_response: [])
    with pytest.raises(ValueError, match="/health is taken"):
        server.mount("/health", lambda environ, start_response: [])


def test_mounting_is_over_when_the_server_has_started(serve):
    with pytest.raises(RuntimeError, match=r"/late cannot be mounted any more.*`setup\(\)`"):
        serve(Service).server.mount("/late", lambda environ, start_response: [])


def test_the_longest_path_counts():
    outer, inner = (Mount(path, lambda environ, start_response: []) for path in ("/a", "/a/b"))
    router = Router(Map([Rule("/", endpoint="root")]), [outer, inner])
    matches = {path: router.match(EnvironBuilder(path).get_environ())[0] for path in ("/", "/a", "/a/b/c", "/a/bc")}
    assert matches == {"/": "root", "/a": outer, "/a/b/c": inner, "/a/bc": outer}
