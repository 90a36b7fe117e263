"""What configuration adds to the server: TLS, middleware, proxies, CORS, the access log, OpenAPI."""

from __future__ import annotations

import json
import logging
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from werkzeug.wrappers import Request, Response

from nameko.exceptions import ConfigurationError
from nameko.web.handlers import http


class Service:
    """Books.

    Lends them, too.
    """

    name = "service"
    version = "2.1"

    @http("GET", "/echo")
    def echo(self, request: Request) -> str:
        return json.dumps([request.remote_addr, request.scheme, request.host, request.root_url, request.is_secure])

    @http("GET,POST", "/books/<int:book_id>")
    def book(self, request: Request, book_id: int) -> str:
        """Get or change a book.

        The number is on its back.
        """
        return str(book_id)

    @http("POST", "/upload")
    def upload(self, request: Request) -> str:
        return str(len(request.get_data()))

    @http("DELETE", "/shelves/<any(red, 'blue'):colour>/<uuid:key>/<path:rest>/<float:x>")
    def shelf(self, request: Request, colour: str, key: object, rest: str, x: float) -> str:
        return ""

    @http("GET", "/fails")
    def fails(self, request: Request) -> str:
        raise ValueError

    @http("GET", "/large")
    def large(self, request: Request) -> Response:
        return Response((b"x" * 10_000 for _ in range(300)), mimetype="text/plain")


# -- TLS


def openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> Path:
    """An authority, and certificates for the server and for a client that it has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder: Path = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}"),
            *("-addext", "keyUsage=critical,keyCertSign", "-keyout", folder / f"{authority}.key"),
            *("-out", folder / f"{authority}.pem"),
        )
    for name, protection in (("server", ["-nodes"]), ("client", ["-nodes"]), ("secret", ["-passout", "pass:secret"])):
        openssl(
            *("req", "-newkey", "rsa:2048", *protection, "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr"),
        )
        openssl(
            *("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"),
            *("-CAcreateserial", "-days", "2", "-copy_extensions", "copy", "-out", folder / f"{name}.pem"),
        )
    return folder


def tls_options(certificates: Path, name: str = "server") -> dict[str, str]:
    return {"certfile": str(certificates / f"{name}.pem"), "keyfile": str(certificates / f"{name}.key")}


def fetch(service, certificates: Path, path: str, data: bytes | None = None, client: str | None = None) -> bytes:
    """With the standard library's client."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    if client:
        context.load_cert_chain(certificates / f"{client}.pem", certificates / f"{client}.key")
    request = urllib.request.Request(f"https://{service.address}{path}", data)
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return answer.read()


def test_https(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL=tls_options(certificates))
    assert json.loads(fetch(service, certificates, "/echo"))[1:] == [
        "https",
        str(service.address),
        f"https://{service.address}/",
        True,
    ]
    assert fetch(service, certificates, "/upload", b"x" * 3_000_000) == b"3000000"
    assert fetch(service, certificates, "/large") == b"x" * 3_000_000


def test_https_keeps_connections(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL=tls_options(certificates))
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    with service.connect() as raw:
        raw.sock = context.wrap_socket(raw.sock, server_hostname="127.0.0.1")
        for number in range(3):
            raw.send(f"GET /books/{number} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert raw.response().text == str(number)
        raw.send(b"GET /books/9 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert raw.response().text == "9"
        assert raw.closed()


def test_https_with_a_key_that_is_protected(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL={**tls_options(certificates, "secret"), "password": "secret"})
    assert fetch(service, certificates, "/books/1") == b"1"
    with pytest.raises(ConfigurationError, match="WEB_SERVER_SSL: certificate or key cannot be used"):
        serve(Service, WEB_SERVER_SSL=tls_options(certificates, "secret"))


def test_https_with_client_certificates(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL={**tls_options(certificates), "cafile": str(certificates / "ca.pem")})
    assert fetch(service, certificates, "/books/1", client="client") == b"1"
    for stranger in (None, "other"):
        with pytest.raises((urllib.error.URLError, OSError)):
            fetch(service, certificates, "/books/1", client=stranger)


def test_plain_text_on_the_tls_port(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL=tls_options(certificates))
    with service.connect() as raw:
        raw.send(b"GET /books/1 HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"HTTP/1.1" not in raw.read_to_end()
    assert fetch(service, certificates, "/books/1") == b"1"


def test_handshake_that_does_not_come_is_given_up(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL=tls_options(certificates), WEB_SERVER_HEADER_TIMEOUT=0.3)
    with service.connect() as raw:
        assert raw.closed()


def test_tls_1_2_is_spoken(serve, certificates):
    service = serve(Service, WEB_SERVER_SSL=tls_options(certificates))
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with service.connect() as raw:
        raw.sock = context.wrap_socket(raw.sock, server_hostname="127.0.0.1")
        assert raw.sock.version() == "TLSv1.2"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"certfile": "/nowhere"}, "certificate or key cannot be used"),
        ({"keyfile": "/nowhere"}, "`certfile` is missing"),
        ({"certfile": "x", "verify": False}, "unknown option `verify`; there are cafile, certfile"),
    ],
)
def test_tls_options_that_are_of_no_use(serve, options, complaint):
    with pytest.raises(ConfigurationError, match=f"WEB_SERVER_SSL: {complaint}"):
        serve(Service, WEB_SERVER_SSL=options)


# -- middleware


class Tagging:
    """WSGI middleware that adds itself to a field of the response."""

    def __init__(self, app, tag="plain"):
        self.app = app
        self.tag = tag

    def __call__(self, environ, start_response):
        def start(status, headers, exc_info=None):
            return start_response(status, [*headers, ("X-Tag", self.tag)], exc_info)

        return self.app(environ, start)


@pytest.fixture
def importable(monkeypatch):
    """Makes `Tagging` importable as `tagging_middleware.Tagging`."""
    import sys
    import types

    module = types.ModuleType("tagging_middleware")
    module.Tagging = Tagging
    monkeypatch.setitem(sys.modules, "tagging_middleware", module)


def test_middleware(serve, importable):
    service = serve(
        Service,
        WEB_SERVER_MIDDLEWARE=[
            {"tagging_middleware.Tagging": {"tag": "outer"}},
            "tagging_middleware.Tagging",
            {"tagging_middleware.Tagging": None},
        ],
    )
    response = service.get("/books/1")
    assert response.text == "1"
    assert [value for name, value in response.fields if name == "X-Tag"] == ["plain", "plain", "outer"]


def test_middleware_sees_the_body(serve, importable):
    service = serve(Service, WEB_SERVER_MIDDLEWARE=["tagging_middleware.Tagging"])
    assert service.get("/upload", "POST", iter([b"x" * 100_000] * 30)).text == "3000000"


@pytest.mark.parametrize(
    ("item", "complaint"),
    [
        ("no.such.thing", "no.such.thing cannot be imported"),
        ("tagging_middleware.Missing", "has no `Missing`"),
        ({"tagging_middleware.Tagging": {"colour": 1}}, "cannot be made"),
        (1, "1 should be a dotted path"),
        ({"a": {}, "b": {}}, "should be a dotted path"),
    ],
)
def test_middleware_that_cannot_be_had(serve, importable, item, complaint):
    with pytest.raises(ConfigurationError, match=f"WEB_SERVER_MIDDLEWARE: .*{re.escape(complaint)}"):
        serve(Service, WEB_SERVER_MIDDLEWARE=[item])


# -- proxies

FORWARDED = {
    "X-Forwarded-For": "10.1.2.3",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "public.example",
    "X-Forwarded-Prefix": "/api",
}


def test_proxy_headers_of_strangers_are_ignored(serve):
    for trusted in ([], ["10.0.0.0/8", "unix"]):
        service = serve(Service, WEB_SERVER_TRUSTED_PROXIES=trusted)
        seen = json.loads(service.get("/echo", headers=FORWARDED).body)
        assert seen[:2] == ["127.0.0.1", "http"]
        assert "public.example" not in seen[2]


@pytest.mark.parametrize("trusted", ["127.0.0.1", ["10.0.0.0/8", "127.0.0.0/8"]])
def test_proxy_headers_of_a_trusted_proxy(serve, trusted):
    service = serve(Service, WEB_SERVER_TRUSTED_PROXIES=trusted)
    seen = json.loads(service.get("/echo", headers=FORWARDED).body)
    assert seen == ["10.1.2.3", "https", "public.example", "https://public.example/api/", True]


def test_only_the_last_hop_is_believed(serve):
    service = serve(Service, WEB_SERVER_TRUSTED_PROXIES=["127.0.0.1"])
    seen = json.loads(service.get("/echo", headers={"X-Forwarded-For": "6.6.6.6, 10.1.2.3"}).body)
    assert seen[0] == "10.1.2.3"


# -- CORS

APP = "https://app.example"


def cors(response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name.startswith("access-control")}


def preflight(service, origin: str = APP, method: str = "POST", headers: str = "") -> object:
    fields = {"Origin": origin, "Access-Control-Request-Method": method}
    if headers:
        fields["Access-Control-Request-Headers"] = headers
    return service.get("/upload", "OPTIONS", headers=fields)


def test_cors_for_named_origins(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": [APP], "expose_headers": ["X-Total"], "credentials": True})
    response = service.get("/books/1", headers={"Origin": APP})
    assert response.text == "1"
    assert cors(response) == {
        "access-control-allow-origin": APP,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "X-Total",
    }
    assert response.headers["vary"] == "Origin"


def test_cors_for_other_origins(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": [APP], "expose_headers": ["X-Total"]})
    response = service.get("/books/1", headers={"Origin": "https://evil.example"})
    assert (response.text, cors(response), response.headers["vary"]) == ("1", {}, "Origin")
    assert cors(preflight(service, "https://evil.example")) == {}


def test_requests_of_the_same_origin(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": [APP]})
    response = service.get("/books/1")
    assert (cors(response), response.headers["vary"]) == ({}, "Origin")


def test_cors_for_everybody(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": "*"})
    response = service.get("/books/1", headers={"Origin": "https://any.example"})
    assert cors(response) == {"access-control-allow-origin": "*"}
    assert "vary" not in response.headers


def test_cors_on_errors(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": [APP]})
    for path, status in (("/fails", 500), ("/nowhere", 404)):
        response = service.get(path, headers={"Origin": APP})
        assert (response.status, cors(response)) == (status, {"access-control-allow-origin": APP})


def test_preflight(serve):
    service = serve(
        Service, WEB_SERVER_CORS={"origins": [APP], "methods": ["POST"], "headers": ["X-Token"], "max_age": 60}
    )
    response = preflight(service, headers="x-token, x-other")
    assert (response.status, response.body) == (204, b"")
    assert cors(response) == {
        "access-control-allow-origin": APP,
        "access-control-allow-methods": "POST",
        "access-control-allow-headers": "x-token",
        "access-control-max-age": "60",
    }


def test_preflight_with_any_header(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": [APP], "headers": "*"})
    assert cors(preflight(service, headers="x-a,x-b"))["access-control-allow-headers"] == "x-a, x-b"


def test_options_without_a_preflight_go_to_the_service(serve):
    service = serve(Service, WEB_SERVER_CORS={"origins": [APP]})
    assert service.get("/upload", "OPTIONS", headers={"Origin": APP}).status == 405


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "`origins` is missing"),
        ({"origins": "*", "credentials": True}, "would let any page act for a user"),
        ({"origin": "*"}, "unknown option `origin`; there are origins"),
        ({"origins": 1}, "`origins` must be a list of strings"),
        ({"origins": "*", "max_age": "1h"}, "`max_age` must be a whole number"),
    ],
)
def test_cors_options_that_are_of_no_use(serve, options, complaint):
    with pytest.raises(ConfigurationError, match=f"WEB_SERVER_CORS: {complaint}|WEB_SERVER_CORS: .*{complaint}"):
        serve(Service, WEB_SERVER_CORS=options)


# -- the access log


def access_lines(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "nameko.web.access"]


def test_no_access_log_by_default(serve, caplog):
    with caplog.at_level(logging.DEBUG):
        serve(Service).get("/books/1")
        serve(Service, WEB_SERVER_ACCESS_LOG=False).get("/books/1")
    assert access_lines(caplog) == []


def test_common_access_log(serve, caplog, eventually):
    service = serve(Service, WEB_SERVER_ACCESS_LOG="common")
    with caplog.at_level(logging.INFO):
        service.get('/books/12?q="x')
        service.get("/nowhere")
        eventually(lambda: len(access_lines(caplog)) == 2)
    first, second = access_lines(caplog)
    pattern = (
        r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /books/12\?q=\\"x HTTP/1\.1" 200 2 [\d.]+'
    )
    assert re.fullmatch(pattern, first)
    assert '"GET /nowhere HTTP/1.1" 404 ' in second


def test_json_access_log(serve, caplog, eventually):
    service = serve(Service, WEB_SERVER_ACCESS_LOG="json")
    with caplog.at_level(logging.INFO):
        service.get("/fails", headers={"User-Agent": "test", "Referer": "http://x/"})
        eventually(lambda: access_lines(caplog))
    entry = json.loads(access_lines(caplog)[0])
    assert entry.pop("duration_ms") > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", entry.pop("time"))
    assert entry.pop("bytes") > 20
    assert entry == {
        "remote_addr": "127.0.0.1",
        "method": "GET",
        "target": "/fails",
        "protocol": "HTTP/1.1",
        "status": 500,
        "user_agent": "test",
        "referer": "http://x/",
    }


def test_refused_requests_are_logged_too(serve, caplog, eventually):
    service = serve(Service, WEB_SERVER_ACCESS_LOG="common")
    with caplog.at_level(logging.INFO):
        service.exchange(b"nonsense\r\n\r\n")
        eventually(lambda: access_lines(caplog))
    assert '"- - -" 400' in access_lines(caplog)[0]


# -- OpenAPI


def test_no_document_by_default(serve):
    assert serve(Service).get("/openapi.json").status == 404


def test_openapi_document(serve):
    service = serve(Service, WEB_SERVER_OPENAPI_PATH="/openapi.json")
    response = service.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    document = json.loads(response.body)
    assert document["openapi"] == "3.1.0"
    assert document["info"] == {
        "title": "service",
        "version": "2.1",
        "summary": "Books.",
        "description": "Lends them, too.",
    }
    assert list(document["paths"]) == [
        "/books/{book_id}",
        "/echo",
        "/fails",
        "/large",
        "/shelves/{colour}/{key}/{rest}/{x}",
        "/upload",
    ]
    assert list(document["paths"]["/books/{book_id}"]) == ["get", "post"]
    assert document["paths"]["/books/{book_id}"]["get"] == {
        "operationId": "book_get",
        "summary": "Get or change a book.",
        "description": "The number is on its back.",
        "parameters": [{"name": "book_id", "in": "path", "required": True, "schema": {"type": "integer"}}],
        "responses": {"default": {"description": "The service's response"}},
    }
    shelf = document["paths"]["/shelves/{colour}/{key}/{rest}/{x}"]["delete"]
    assert shelf["operationId"] == "shelf"
    assert [parameter["schema"] for parameter in shelf["parameters"]] == [
        {"type": "string", "enum": ["red", "blue"]},
        {"type": "string", "format": "uuid"},
        {"type": "string"},
        {"type": "number"},
    ]


def test_document_of_a_path_with_several_methods(serve):
    class Shared:
        name = "shared"

        @http("GET", "/thing")
        def read(self, request: Request) -> str:
            return ""

        @http("PUT", "/thing")
        def write(self, request: Request) -> str:
            return ""

    service = serve(Shared, WEB_SERVER_OPENAPI_PATH="/api")
    document = json.loads(service.get("/api").body)
    assert {method: op["operationId"] for method, op in document["paths"]["/thing"].items()} == {
        "get": "read",
        "put": "write",
    }
    assert document["info"] == {"title": "shared", "version": "1"}
