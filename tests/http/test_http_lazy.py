"""Requests and responses that are made when they are looked at: nobody can tell."""

from __future__ import annotations

import io

import pytest
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from nameko.web._lazy import LazyHeaders, LazyRequest, LazyResponse, plain_parts


@pytest.fixture
def environ():
    return EnvironBuilder("/path?a=1", method="POST", data=b"body", headers={"X-A": "b"}).get_environ()


@pytest.mark.parametrize(
    "look",
    [
        lambda request: request.method,
        lambda request: request.path,
        lambda request: request.headers["X-A"],
        lambda request: request.args["a"],
        lambda request: request.get_data(),
        lambda request: request.url,
        lambda request: request.content_length,
        lambda request: sorted(request.cookies),
        lambda request: repr(request),
        lambda request: hasattr(request, "no_such_thing"),
        lambda request: getattr(request, "user", None),
        lambda request: (setattr(request, "path", "/other"), request.path),
        lambda request: (setattr(request, "user", 1), request.user, request.path),
        lambda request: request.environ["PATH_INFO"],
    ],
)
def test_request(environ, look):
    lazy = LazyRequest(environ, {"x": 1})
    assert isinstance(lazy, Request)
    seen = look(lazy)
    environ["wsgi.input"].seek(0)
    assert seen == look(Request(environ))
    assert lazy.path_values == {"x": 1}


def test_request_that_nobody_looks_at_is_not_made(environ):
    lazy = LazyRequest(environ, {"x": 1})
    assert lazy.path_values == {"x": 1}
    assert set(vars(lazy)) == {"environ", "path_values"}
    assert lazy.method == "POST"
    assert type(lazy) is Request


@pytest.fixture
def environ_of():
    """`environ_of(body, content_type)`: as the server makes it, for a body that has arrived with the head."""

    def make(data, content_type):
        environ = EnvironBuilder("/", method="POST", data=data, content_type=content_type).get_environ()
        return environ | {"wsgi.input": io.BytesIO(data), "wsgi.input_terminated": True}

    return make


FORM = (b"a=1&b=2", "application/x-www-form-urlencoded")
MULTIPART = (
    b'--x\r\nContent-Disposition: form-data; name="f"; filename="n"\r\n\r\nupload\r\n--x--\r\n',
    "multipart/form-data; boundary=x",
)
JSON = (b'{"a": "\xc3\xbc"}', "application/json")
BODIES = [FORM, MULTIPART, JSON, (b'{"a": 1}', "application/hal+json; charset=utf-8"), (b"{", "application/json")]


def outcome(look, request):
    try:
        with request:
            return look(request)
    except HTTPException as exc:
        return type(exc)


@pytest.mark.parametrize("body", [*BODIES, (b"\xff", "text/plain"), (b"", "text/plain")])
@pytest.mark.parametrize(
    "look",
    [
        lambda request: request.get_data(),
        lambda request: request.get_data(as_text=True),
        lambda request: request.get_data(parse_form_data=True),
        lambda request: (request.get_data(), request.get_data(), request.data),
        lambda request: (request.get_data(cache=False), request.get_data()),
        lambda request: (request.get_data(), request.get_data(cache=False), request.stream.read()),
        lambda request: (request.stream.read(3), request.get_data()),
        lambda request: (request.input_stream.read(3), request.get_data(), request.method, request.get_data()),
        lambda request: (request.get_data(), request.method, request.get_data(), request.stream.read()),
        lambda request: (request.get_data(), dict(request.form), request.stream.read()),
        lambda request: (request.get_data(), {name: file.read() for name, file in request.files.items()}),
        lambda request: (dict(request.form), request.get_data()),
        lambda request: (request.get_data(cache=False), dict(request.form)),
        lambda request: (request.get_data(), request.environ.pop("wsgi.input"), request.path, request.get_data())[2:],
        lambda request: (setattr(request, "max_content_length", 3), request.get_data()),
        lambda request: (setattr(request, "stream", io.BytesIO(b"other")), request.get_data()),
        lambda request: request.is_json,
        lambda request: (request.get_json(), request.json, request.get_data()),
        lambda request: request.get_json(force=True, silent=True),
        lambda request: (request.get_json(silent=True, cache=False), request.get_data()),
    ],
)
def test_body_that_is_at_hand(environ_of, body, look):
    assert outcome(look, LazyRequest(environ_of(*body), {})) == outcome(look, Request(environ_of(*body)))


@pytest.mark.parametrize("look", [lambda request: request.get_data(as_text=True), lambda request: request.get_json()])
def test_body_takes_no_request(environ_of, look):
    lazy = LazyRequest(environ_of(*JSON), {})
    assert look(lazy) == look(Request(environ_of(*JSON)))
    assert type(lazy) is LazyRequest
    assert lazy.content_type == "application/json"
    assert type(lazy) is Request
    assert lazy.get_data() == JSON[0]


@pytest.mark.parametrize("limit", [len(JSON[0]) - 1, len(JSON[0])])
def test_limit_of_the_class_holds_for_a_body_that_is_at_hand(environ_of, monkeypatch, limit):
    monkeypatch.setattr(Request, "max_content_length", limit)
    requests = [LazyRequest(environ_of(*JSON), {}), Request(environ_of(*JSON))]
    seen, expected = (outcome(lambda request: request.get_data(), request) for request in requests)
    assert seen == expected == (JSON[0] if limit == len(JSON[0]) else RequestEntityTooLarge)


@pytest.mark.parametrize(
    "look",
    [
        lambda response: response.status,
        lambda response: response.status_code,
        lambda response: response.get_data(),
        lambda response: response.content_type,
        lambda response: sorted(response.headers),
        lambda response: repr(response),
        lambda response: (setattr(response, "status_code", 404), response.status, response.data),
        lambda response: (setattr(response, "data", "new"), response.get_data(), response.content_length),
        lambda response: (response.set_cookie("a", "b"), response.headers["Set-Cookie"]),
        lambda response: response.is_streamed,
    ],
)
@pytest.mark.parametrize(
    ("text", "status", "headers"),
    [("text", 200, None), ("", 201, {"X-A": "b"}), ("ü", "418 Teapot", {"Content-Type": "text/x"})],
)
def test_response(look, text, status, headers):
    lazy = LazyResponse(text, status, headers)
    assert isinstance(lazy, Response)
    assert look(lazy) == look(Response(text, status=status, headers=headers))


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, None),
        (200, {}),
        (404, {"X-A": "b"}),
        (201, {"content-type": "a/b"}),
        (207, {"X": "", "Y": "z"}),
        (414, None),
    ],
)
def test_parts_are_those_of_the_response(status, headers):
    parts = plain_parts(LazyResponse("grün", status, headers))
    response = Response("grün", status=status, headers=headers)
    assert parts is not None
    expected = [(name.lower(), value) for name, value in response.headers if name != "Content-Length"]
    assert sorted((name.lower(), value) for name, value in parts[1]) == sorted(expected)
    assert (parts[0], parts[2]) == (response.status, response.data)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (204, None),
        (304, None),
        (205, None),
        (101, None),
        (999, None),
        (True, None),
        ("200 OK", None),
        (None, None),
        (200, {"Location": "/ü"}),
        (200, {"Content-Length": "3"}),
        (200, {"X": 1}),
        (200, {"X": ["a", "b"]}),
        (200, [("X", "a")]),
    ],
)
def test_what_takes_a_response_to_tell(status, headers):
    assert plain_parts(LazyResponse("text", status, headers)) is None


def test_headers_are_those_of_the_request():
    environ = {"HTTP_X_NAME": "value", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "", "REQUEST_METHOD": "GET"}
    headers, expected = LazyHeaders(environ), EnvironHeaders(environ)
    assert list(headers) == list(expected) == [("X-Name", "value"), ("Content-Type", "text/plain")]
    assert list(headers.keys()) == list(expected.keys())
    assert (headers.get("x-name"), headers.get("X-Name"), headers.get("absent")) == ("value", "value", None)
    assert headers.getlist("x-name") == ["value"]
    assert repr(headers).endswith(repr(expected).partition("(")[2])
