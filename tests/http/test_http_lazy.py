"""Requests and responses that are made when they are looked at: nobody can tell."""

from __future__ import annotations

import pytest
from werkzeug.datastructures import EnvironHeaders
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
