"""`@http`: from requests to calls, and from outcomes to responses."""

from __future__ import annotations

import json
import logging
import re
import uuid
from typing import Any

import pytest
from werkzeug.exceptions import Conflict, NotFound
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from nameko import concurrency
from nameko.concurrency import Timeout
from nameko.exceptions import BadRequest, ConfigurationError
from nameko.extensions import DependencyProvider
from nameko.web.handlers import HttpRequestHandler, http
from nameko.web.server import WebServer


class Expected(Exception):
    pass


class Service:
    name = "service"

    @http("GET", "/get/<int:value>")
    def get(self, request: Request, value: int) -> str:
        return json.dumps({"value": value})

    @http("POST", "/post")
    def post(self, request: Request) -> str:
        return f"received: {request.get_data(as_text=True)}"

    @http("GET,PUT, POST,DELETE", "/multi")
    def multi(self, request: Request) -> str:
        return request.method

    @http("GET", "/typed/<float:number>/<uuid:key>/<any(red, blue):colour>/<path:rest>")
    def typed(self, request: Request, number: float, key: uuid.UUID, colour: str, rest: str) -> str:
        return repr((number, str(key), colour, rest))

    @http("GET", "/status")
    def status(self, request: Request) -> tuple[int, str]:
        return 201, "created"

    @http("GET", "/headers")
    def headers(self, request: Request) -> tuple[int, dict[str, str], str]:
        return 201, {"x-foo": "bar", "Location": "https://www.example.com/widget/1"}, "created"

    @http("GET", "/typed-content")
    def typed_content(self, request: Request) -> tuple[int, dict[str, str], str]:
        return 200, {"Content-Type": "application/json"}, "{}"

    @http("GET", "/response")
    def response(self, request: Request) -> Response:
        return Response("payload", status=418, mimetype="text/x-tea")

    @http("GET", "/bytes")
    def bytes_payload(self, request: Request) -> Any:
        return b"bytes"

    @http("GET", "/none")
    def none_payload(self, request: Request) -> Any:
        return None

    @http("GET", "/dict")
    def dict_payload(self, request: Request) -> Any:
        return {"token": "the secret of the service"}

    @http("GET", "/status-and-dict")
    def status_and_dict(self, request: Request) -> Any:
        return 200, {"token": "the secret of the service"}

    @http("GET", "/four")
    def four_tuple(self, request: Request) -> Any:
        return 200, {}, "", ""

    @http("GET", "/unexpected")
    def unexpected(self, request: Request) -> str:
        raise ValueError("the secret of the service")

    @http("GET", "/expected", expected_exceptions=Expected)
    def expected(self, request: Request) -> str:
        raise Expected("no such luck: ø")

    @http("GET", "/bad-request")
    def bad_request(self, request: Request) -> str:
        raise BadRequest("bad argument")

    @http("GET", "/werkzeug/<kind>")
    def werkzeug(self, request: Request, kind: str) -> str:
        raise {"conflict": Conflict("taken"), "not-found": NotFound()}[kind]

    @http("POST", "/json")
    def json(self, request: Request) -> str:
        return str(request.get_json()["a"])

    @http("GET", "/timeout")
    def timeout(self, request: Request) -> str:
        with Timeout(0.01):
            concurrency.sleep(5)
        return "never"

    @http("GET", "/exit")
    def exit(self, request: Request) -> str:
        raise SystemExit(3)

    @http("GET", "/wrong-signature/<value>")
    def wrong_signature(self, request: Request) -> str:
        return "never"

    @http("GET", "/unicode/<text>")
    def unicode(self, request: Request, text: str) -> str:
        return text + request.args.get("q", "")


@pytest.fixture
def service(serve):
    return serve(Service)


def test_string_result(service):
    response = service.get("/get/42")
    assert (response.status, response.reason, response.text) == (200, "OK", '{"value": 42}')
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["content-length"] == "13"
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", response.headers["date"])


def test_request_body(service):
    assert service.get("/post", "POST", body="föö".encode()).text == "received: föö"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_several_methods(service, method):
    assert service.get("/multi", method).text == method


def test_url_converters(service):
    key = uuid.uuid4()
    response = service.get(f"/typed/1.5/{key}/blue/a/b")
    assert response.text == repr((1.5, str(key), "blue", "a/b"))


def test_unicode_in_path_and_query(service):
    assert service.get("/unicode/gr%C3%BC%C3%9Fe?q=%C3%A9").text == "grüßeé"


def test_status_result(service):
    response = service.get("/status")
    assert (response.status, response.reason, response.text) == (201, "CREATED", "created")


def test_headers_result(service):
    response = service.get("/headers")
    assert (response.status, response.text) == (201, "created")
    assert response.headers["x-foo"] == "bar"
    assert response.headers["location"] == "https://www.example.com/widget/1"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_content_type_of_headers_result(service):
    assert service.get("/typed-content").headers["content-type"] == "application/json"


def test_response_result(service):
    response = service.get("/response")
    assert (response.status, response.text) == (418, "payload")
    assert response.headers["content-type"] == "text/x-tea; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/bytes", "bytes"), ("/none", "NoneType"), ("/four", "tuple"), ("/dict", "dict"), ("/status-and-dict", "dict")],
)
def test_of_a_payload_that_is_no_string_the_client_learns_the_type_and_an_id(service, caplog, path, kind):
    with caplog.at_level(logging.ERROR):
        response = service.get(path)
    assert response.status == 500
    match = re.fullmatch(rf"Error: TypeError: Payload must be a string, not {kind}: ([0-9a-f]{{16}})\n", response.text)
    assert match
    (logged,) = [record.getMessage() for record in caplog.records if match[1] in record.getMessage()]
    assert re.search(rf"service\.\w+ failed: \w+: Payload must be a string, not {kind}", logged)
    assert "the secret of the service" not in caplog.text


def test_unexpected_exception_tells_an_id_and_nothing_else(service, caplog):
    with caplog.at_level(logging.ERROR):
        response = service.get("/unexpected")
    assert response.status == 500
    match = re.fullmatch(r"Error: Internal Server Error: ([0-9a-f]{16})\n", response.text)
    assert match
    logged = [record.getMessage() for record in caplog.records if match[1] in record.getMessage()]
    assert len(logged) == 1
    assert "service.unexpected" in logged[0]
    assert "ValueError: the secret of the service" in logged[0]


def test_expected_exception(service):
    response = service.get("/expected")
    assert (response.status, response.text) == (400, "Error: Expected: no such luck: ø\n")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_bad_request(service):
    response = service.get("/bad-request")
    assert (response.status, response.text) == (400, "Error: BadRequest: bad argument\n")


def test_exceptions_of_werkzeug_are_answered_as_what_they_are(service):
    assert service.get("/werkzeug/conflict").status == 409
    assert service.get("/werkzeug/not-found").status == 404


def test_bad_json_is_the_clients_fault(service):
    assert service.get("/json", "POST", b"{", {"Content-Type": "application/json"}).status == 400
    assert service.get("/json", "POST", b"{}", {"Content-Type": "text/plain"}).status == 415


@pytest.mark.parametrize("path", ["/timeout", "/exit"])
def test_exceptions_that_are_no_exceptions(service, path):
    response = service.get(path)
    assert (response.status, response.text[:28]) == (500, "Error: Internal Server Error")
    assert service.get("/get/1").status == 200


def test_signature_is_checked_before_a_worker_starts(service):
    response = service.get("/wrong-signature/1")
    assert response.status == 400
    assert response.text.startswith("Error: IncorrectSignature: ")


def test_unknown_path(service):
    response = service.get("/nowhere")
    assert response.status == 404
    assert response.headers["content-type"] == "text/html; charset=utf-8"


def test_value_that_does_not_convert(service):
    assert service.get("/get/x").status == 404


def test_wrong_method(service):
    response = service.get("/post", "GET")
    assert response.status == 405
    assert response.headers["allow"] == "POST"


def test_options_is_not_added(service):
    assert service.get("/post", "OPTIONS").status == 405


def test_get_answers_head(service):
    with service.connect() as raw:
        raw.send(b"HEAD /get/42 HTTP/1.1\r\nHost: x\r\n\r\n")
        response = raw.response(head_only=True)
        assert (response.status, response.headers["content-length"]) == (200, "13")
        raw.send(b"GET /get/7 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert raw.response().text == '{"value": 7}'


def test_response_from_exception_can_be_overridden(serve):
    class HttpError(Exception):
        pass

    class Handler(HttpRequestHandler):
        def response_from_exception(self, exc):
            if isinstance(exc, HttpError):
                return Response(json.dumps({"message": str(exc)}), status=422, mimetype="application/json")
            return HttpRequestHandler.response_from_exception(self, exc)

    custom = Handler.decorator

    class Custom:
        name = "custom"

        @custom("GET", "/ours")
        def ours(self, request):
            raise HttpError("broken")

        @custom("GET", "/other")
        def other(self, request):
            raise BadRequest("plain")

    service = serve(Custom)
    response = service.get("/ours")
    assert (response.status, json.loads(response.body)) == (422, {"message": "broken"})
    assert response.headers["content-type"] == "application/json"
    assert service.get("/other").text == "Error: BadRequest: plain\n"


def test_everything_else_of_the_handler_can_be_overridden(serve):
    class Handler(HttpRequestHandler):
        def get_url_rule(self):
            return Rule(f"/prefix{self.url}", methods=["GET"])

        def get_entrypoint_parameters(self, request):
            return (request.args["a"],), {}

        def handle_result(self, event, worker_ctx, result, exc_info):
            result = f"{result} of {worker_ctx.service_name}"
            return super().handle_result(event, worker_ctx, result, exc_info)

        def response_from_result(self, result):
            return Response(result.upper())

        def handle_request(self, request):
            response = super().handle_request(request)
            response.headers["X-Handled"] = "yes"
            return response

    class Custom:
        name = "custom"

        @Handler.decorator("GET", "/x")
        def method(self, a):
            return f"result {a}"

    response = serve(Custom).get("/prefix/x?a=b")
    assert response.text == "RESULT B OF CUSTOM"
    assert response.headers["x-handled"] == "yes"


def test_parameters_that_cannot_be_made(serve, caplog):
    class Handler(HttpRequestHandler):
        def get_entrypoint_parameters(self, request):
            raise KeyError("private")

    class Custom:
        name = "custom"

        @Handler.decorator("GET", "/x")
        def method(self, request):
            return ""

    with caplog.at_level(logging.ERROR):
        response = serve(Custom).get("/x")
    assert response.status == 500
    assert "private" not in response.text
    assert any(record.exc_info and record.exc_info[0] is KeyError for record in caplog.records)


def test_context_data_from_headers(serve):
    class Server(WebServer):
        def context_data_from_headers(self, request):
            return {"language": request.headers["Accept-Language"]}

    class Handler(HttpRequestHandler):
        server = Server()

    class Language(DependencyProvider):
        def get_dependency(self, worker_ctx):
            return worker_ctx.data["language"]

    class Custom:
        name = "custom"
        language = Language()

        @Handler.decorator("GET", "/")
        def method(self, request):
            return self.language

    assert serve(Custom).get("/", headers={"Accept-Language": "de"}).text == "de"


def test_headers_of_a_stranger_are_no_context_data_by_default(serve):
    class Data(DependencyProvider):
        def get_dependency(self, worker_ctx):
            return worker_ctx.data

    class Custom:
        name = "custom"
        data = Data()

        @http("GET", "/")
        def method(self, request):
            return json.dumps(self.data)

    assert serve(Custom).get("/", headers={"nameko.call_id_stack": "x"}).text == "{}"


def test_several_entrypoints_on_one_method(serve):
    class Custom:
        name = "custom"

        @http("GET", "/a")
        @http("POST", "/b")
        def method(self, request):
            return f"{request.method} {request.path}"

    service = serve(Custom)
    assert service.get("/a").text == "GET /a"
    assert service.get("/b", "POST").text == "POST /b"


def test_trailing_slash_redirects(serve):
    class Custom:
        name = "custom"

        @http("GET", "/dir/")
        def method(self, request):
            return "ok"

    response = serve(Custom).get("/dir", headers={"Host": "example.com"})
    assert response.status == 308
    assert response.headers["location"] == "http://example.com/dir/"


@pytest.mark.parametrize("url", ["no-slash", "/<nosuchconverter:x>", "/<unclosed"])
def test_bad_url_rule(serve, url):
    class Custom:
        name = "custom"

        @http("GET", url)
        def method(self, request):
            return ""

    with pytest.raises(ConfigurationError, match=r"^custom\.method: the URL rule cannot be used: "):
        serve(Custom)


def test_workers_are_limited_by_the_pool(serve):
    running: list[int] = []
    peak: list[int] = []

    class Custom:
        name = "custom"

        @http("GET", "/")
        def method(self, request):
            running.append(1)
            peak.append(len(running))
            concurrency.sleep(0.02)
            running.pop()
            return ""

    service = serve(Custom, max_workers=2)
    threads = [concurrency.spawn(service.get, "/") for _ in range(8)]
    assert [thread.wait().status for thread in threads] == [200] * 8
    assert max(peak) == 2


def test_client_that_leaves_hurts_nobody(serve, eventually):
    finished: list[int] = []
    go_on = concurrency.Event()

    class Custom:
        name = "custom"

        @http("GET", "/wait")
        def wait(self, request):
            go_on.wait()
            finished.append(1)
            return "x" * 1_000_000

        @http("GET", "/")
        def ping(self, request):
            return "pong"

    service = serve(Custom)
    with service.connect() as raw:
        raw.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: service.container._worker_threads)
    go_on.send(None)
    eventually(lambda: finished)
    assert service.get("/").text == "pong"
    eventually(lambda: service.server.open_connections == 0)


@pytest.mark.parametrize(
    ("http_method", "url", "problem"),
    [
        (1, "/x", r"the HTTP method must be a string like 'GET' or 'GET,PUT', not 1"),
        (["GET"], "/x", r"the HTTP method must be a string like 'GET' or 'GET,PUT', not \['GET'\]"),
        ("GET", 1, r"the URL must be a string like '/x/<int:y>', not 1"),
        ("GET", None, r"the URL must be a string like '/x/<int:y>', not None"),
    ],
)
def test_method_or_url_that_is_no_string(serve, http_method, url, problem):
    class Odd:
        name = "odd"

        @http(http_method, url)
        def method(self, request):
            return ""

    with pytest.raises(ConfigurationError, match=rf"^odd\.method: {problem}"):
        serve(Odd)
