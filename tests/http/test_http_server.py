"""The web server of a container: where it listens, what can be overridden, how it stops."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from werkzeug.wrappers import Request, Response

from nameko import concurrency
from nameko.concurrency import Event, socket
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.runners import ServiceRunner
from nameko.web.handlers import HttpRequestHandler, http
from nameko.web.server import BindAddress, WebServer, WsgiApp, parse_address


class Hello:
    name = "hello"

    @http("GET", "/")
    def hello(self, request: Request) -> str:
        return f"hello {request.remote_addr}"


class Waiting:
    """Answers `/` when it is told to."""

    name = "waiting"
    asked: Event
    go_on: Event

    @http("GET", "/")
    def wait(self, request: Request) -> str:
        self.asked.send(None)
        self.go_on.wait()
        return "done"


@pytest.fixture
def waiting(monkeypatch):
    monkeypatch.setattr(Waiting, "asked", Event(), raising=False)
    monkeypatch.setattr(Waiting, "go_on", Event(), raising=False)
    return Waiting


@contextmanager
def listening(address: str = "127.0.0.1") -> Iterator[int]:
    """A port that is in use."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        sock.listen(1)
        yield sock.getsockname()[1]


# -- addresses


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("localhost:1", ("localhost", 1)),
        ("8000", ("", 8000)),
        (":8000", ("", 8000)),
        (8000, ("", 8000)),
        ("[::1]:8000", ("::1", 8000)),
        ("0.0.0.0:0", ("0.0.0.0", 0)),
        ("unix:/run/x.sock", ("unix:/run/x.sock", 0)),
    ],
)
def test_parse_address(text, address):
    assert parse_address(text) == BindAddress(*address)


@pytest.mark.parametrize(
    "text", ["", "foo", "foo:bar", "1.2.3.4:", "1.2.3.4:99999", "a:b:1", "unix:", "::1:80", "[::1]"]
)
def test_parse_address_refuses(text):
    with pytest.raises(ConfigurationError, match="WEB_SERVER_ADDRESS: misconfigured bind address"):
        parse_address(text)


@pytest.mark.parametrize("text", ["127.0.0.1:99999", "65536", ":700000000"])
def test_parse_address_tells_of_a_port_that_there_is_not(text):
    with pytest.raises(ConfigurationError, match=r"`unix:/path`\. Ports end at 65535\.$"):
        parse_address(text)


def test_public_names_know_where_they_are_public():
    assert {cls.__module__ for cls in (BindAddress, WebServer, WsgiApp, parse_address)} == {"nameko.web.server"}
    assert HttpRequestHandler.__module__ == "nameko.web.handlers"


def test_default_address_is_of_this_machine_alone():
    container = ServiceContainer(Hello, {})
    (server,) = container.shared_extensions.values()
    assert server.bind_addr == BindAddress("127.0.0.1", 8000)


def test_any_free_port(serve):
    service = serve(Hello)
    assert service.address.port > 0
    assert service.get("/").text == "hello 127.0.0.1"


def test_ipv6(serve):
    service = serve(Hello, WEB_SERVER_ADDRESS="[::1]:0")
    assert service.get("/").text == "hello ::1"
    assert service.url == f"http://[::1]:{service.address.port}"


def test_port_in_use_is_one_line(serve):
    with listening() as port, pytest.raises(ConfigurationError) as caught:
        serve(Hello, WEB_SERVER_ADDRESS=f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"WEB_SERVER_ADDRESS: cannot listen on 127.0.0.1:{port}: address already in use. "
        "Each service with HTTP entrypoints needs an address of its own."
    )


def test_address_that_is_not_ours(serve):
    with pytest.raises(
        ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0: cannot assign requested address\.$"
    ):
        serve(Hello, WEB_SERVER_ADDRESS="192.0.2.1:0")
    with pytest.raises(ConfigurationError, match=r"cannot listen on no\.such\.host\.invalid:0: .*not known\.$"):
        serve(Hello, WEB_SERVER_ADDRESS="no.such.host.invalid:0")


def test_two_services_cannot_share_an_address():
    class Other(Hello):
        name = "other"

    with listening() as port:
        pass
    runner = ServiceRunner({"WEB_SERVER_ADDRESS": f"127.0.0.1:{port}"})
    runner.add_service(Hello)
    runner.add_service(Other)
    with pytest.raises(ConfigurationError, match="Each service with HTTP entrypoints needs an address of its own"):
        runner.start()
    runner.kill()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WEB_SERVER_MAX_HEADER_FIELDS", 0),
        ("WEB_SERVER_MAX_BODY_BYTES", "16M"),
        ("WEB_SERVER_HEADER_TIMEOUT", -1),
        ("WEB_SERVER_HEADER_TIMEOUT", True),
        ("WEB_SERVER_ACCESS_LOG", "combined"),
        ("WEB_SERVER_OPENAPI_PATH", "openapi.json"),
        ("WEB_SERVER_MIDDLEWARE", "path.of.one"),
        ("WEB_SERVER_CORS", ["*"]),
        ("WEBSOCKET_EXPOSE_ERRORS", "no"),
        ("WEB_SERVER_TRUSTED_PROXIES", [1]),
        ("WEB_SERVER_TRUSTED_PROXIES", ["nonsense"]),
    ],
)
def test_setting_that_makes_no_sense(serve, key, value):
    with pytest.raises(ConfigurationError, match=f"^{key}"):
        serve(Hello, **{key: value})


# -- Unix sockets


@pytest.fixture
def unix_get(tmp_path):
    path = str(tmp_path / "http.sock")

    def get() -> bytes:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(path)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return b"".join(iter(lambda: sock.recv(4096), b""))

    get.path = path
    return get


def test_unix_socket(unix_get):
    container = ServiceContainer(Hello, {"WEB_SERVER_ADDRESS": f"unix:{unix_get.path}"})
    container.start()
    assert unix_get().endswith(b"\r\n\r\nhello ")
    container.stop()
    assert not os.path.exists(unix_get.path)


def test_unix_socket_that_was_left_behind(unix_get):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(unix_get.path)
    container = ServiceContainer(Hello, {"WEB_SERVER_ADDRESS": f"unix:{unix_get.path}"})
    container.start()
    assert b"hello" in unix_get()
    container.stop()


def test_unix_socket_in_use(unix_get):
    config = {"WEB_SERVER_ADDRESS": f"unix:{unix_get.path}"}
    container = ServiceContainer(Hello, config)
    container.start()
    second = ServiceContainer(Hello, config)
    with pytest.raises(ConfigurationError, match="address already in use"):
        second.start()
    second.kill()
    assert b"hello" in unix_get()
    container.stop()


def test_unix_socket_does_not_replace_a_file(unix_get):
    with open(unix_get.path, "w") as file:
        file.write("precious")
    container = ServiceContainer(Hello, {"WEB_SERVER_ADDRESS": f"unix:{unix_get.path}"})
    with pytest.raises(ConfigurationError, match="address already in use"):
        container.start()
    container.kill()
    assert stat.S_ISREG(os.stat(unix_get.path).st_mode)


# -- overriding


def handler_of(server: WebServer):
    return type("Handler", (HttpRequestHandler,), {"server": server}).decorator


def test_get_wsgi_app_can_be_overridden(serve):
    class Server(WebServer):
        def get_wsgi_app(self):
            app = super().get_wsgi_app()

            def wrapped(environ, start_response):
                def start(status, headers, exc_info=None):
                    return start_response(status, [*headers, ("X-Wrapped", environ["PATH_INFO"])], exc_info)

                return app(environ, start)

            return wrapped

    class Service:
        name = "service"

        @handler_of(Server())("GET", "/a")
        def method(self, request):
            return "ok"

    response = serve(Service).get("/a")
    assert (response.text, response.headers["x-wrapped"]) == ("ok", "/a")


def test_subclass_of_the_wsgi_app(serve):
    class App(WsgiApp):
        def __call__(self, environ, start_response):
            if environ["PATH_INFO"] == "/own":
                return Response("own")(environ, start_response)
            return super().__call__(environ, start_response)

    class Server(WebServer):
        def get_wsgi_app(self):
            return App(self)

    class Service:
        name = "service"

        @handler_of(Server())("GET", "/a")
        def method(self, request):
            return "a"

    service = serve(Service)
    assert service.get("/own").text == "own"
    assert service.get("/a").text == "a"


def test_get_wsgi_server_process_request_and_bind_addr_can_be_overridden(serve):
    seen = []

    class Server(WebServer):
        @property
        def bind_addr(self):
            return BindAddress("127.0.0.2", 0)

        def get_wsgi_server(self, sock, wsgi_app, *args, **kwargs):
            seen.append(("server", sock.getsockname()[0], type(wsgi_app)))
            return super().get_wsgi_server(sock, wsgi_app, *args, **kwargs)

        def process_request(self, sock, address):
            seen.append(("request", address[0]))
            super().process_request(sock, address)

    class Service:
        name = "service"

        @handler_of(Server())("GET", "/a")
        def method(self, request):
            return "a"

    service = serve(Service)
    assert service.get("/a").text == "a"
    assert seen == [("server", "127.0.0.2", WsgiApp), ("request", "127.0.0.1")]


def test_make_url_map_can_be_overridden(serve):
    class Server(WebServer):
        def make_url_map(self):
            url_map = super().make_url_map()
            url_map.host_matching = False
            url_map.strict_slashes = False
            return url_map

    class Service:
        name = "service"

        @handler_of(Server())("GET", "/a")
        def method(self, request):
            return "a"

    assert serve(Service).get("/a").text == "a"


def test_rules_by_host(serve):
    from werkzeug.routing import Map, Rule

    class Server(WebServer):
        def make_url_map(self):
            (provider,) = self._providers
            return Map([Rule("/", host="a.example", endpoint=provider)], host_matching=True)

    class Service:
        name = "service"

        @handler_of(Server())("GET", "/")
        def method(self, request):
            return request.host

    service = serve(Service)
    assert service.get("/", headers={"Host": "a.example"}).text == "a.example"
    assert service.get("/", headers={"Host": "b.example"}).status == 404


def test_one_server_for_each_container():
    class Service:
        name = "service"

        @http("GET", "/a")
        def a(self, request):
            return "a"

        @http("GET", "/b")
        def b(self, request):
            return "b"

    container = ServiceContainer(Service, {})
    assert len([each for each in container.extensions if isinstance(each, WebServer)]) == 1


def test_readiness(serve):
    service = serve(Hello)
    assert service.container.not_ready_reasons() == []
    service.container.stop()
    assert any("does not listen" in reason for reason in service.container.not_ready_reasons())


def test_the_number_of_connections_is_told(serve, eventually):
    service = serve(Hello)

    def numbers():
        container = service.container
        return {stat.name: stat.value for stat in container.plugins.stats(container)}

    assert numbers()["nameko_http_open_connections"] == 0
    with service.connect():
        eventually(lambda: numbers()["nameko_http_open_connections"] == 1)
    eventually(lambda: numbers()["nameko_http_open_connections"] == 0)


# -- stopping


def test_stop_refuses_new_connections(serve):
    service = serve(Hello)
    service.container.stop()
    with pytest.raises(ConnectionRefusedError):
        service.get("/")


def test_stop_finishes_what_is_under_way(serve, waiting, eventually):
    service = serve(waiting)
    with service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.asked.wait()
        stopping = concurrency.spawn(service.container.stop)
        eventually(lambda: service.server.bound_address is None)
        with pytest.raises(ConnectionRefusedError):
            service.connect()
        waiting.go_on.send(None)
        response = raw.response()
        assert (response.text, response.headers["connection"]) == ("done", "close")
        assert raw.closed()
        stopping.wait()


def test_stop_closes_idle_connections(serve):
    service = serve(Hello)
    with service.connect() as idle, service.connect() as fresh:
        idle.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.response().status == 200
        service.container.stop()
        assert idle.closed()
        assert fresh.closed()


def test_stop_cuts_off_what_takes_too_long(serve, waiting, caplog):
    service = serve(waiting, WEB_SERVER_GRACEFUL_TIMEOUT=0.1, SHUTDOWN_TIMEOUT=0.5)
    with service.connect() as raw:
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.asked.wait()
        service.container.stop()
        assert raw.closed()
    assert "1 connections are cut off: not done in 0.1 s" in caplog.text


def test_kill_closes_everything_at_once(serve, waiting):
    service = serve(waiting)
    with service.connect() as busy, service.connect() as idle:
        busy.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        waiting.asked.wait()
        service.container.kill()
        assert busy.closed()
        assert idle.closed()
    with pytest.raises(ConnectionRefusedError):
        service.connect()


def test_same_address_again_after_a_stop(serve):
    first = serve(Hello)
    with first.connect() as raw:  # leaves a connection in TIME_WAIT on the server's side
        raw.send(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert raw.response().status == 200
    first.container.stop()
    second = serve(Hello, WEB_SERVER_ADDRESS=str(first.address))
    assert second.get("/").status == 200


def test_without_monkey_patching():
    program = """
        import urllib.request
        from nameko import concurrency
        from nameko.containers import ServiceContainer
        from nameko.web.handlers import http

        class Service:
            name = "service"

            @http("POST", "/")
            def method(self, request):
                return request.get_data(as_text=True) * 2

        assert not concurrency.is_monkey_patched()
        container = ServiceContainer(Service, {"WEB_SERVER_ADDRESS": "127.0.0.1:0"})
        container.start()
        (server,) = container.shared_extensions.values()
        url = f"http://{server.bound_address}/"
        answer = concurrency.run_in_native_thread(lambda: urllib.request.urlopen(url, b"ab" * 100000, timeout=5).read())
        container.stop()
        print(len(answer))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "400000\n", done.stderr
