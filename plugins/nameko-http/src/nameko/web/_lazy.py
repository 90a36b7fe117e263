"""werkzeug's Request and Response, put off until somebody reads or changes them.

Most handlers read little of a request, and what they return is on its way to the wire at once: there, making these
objects is a good part of the work. A lazy one becomes an ordinary one, class and all, when it is first used as such.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from werkzeug.datastructures import EnvironHeaders
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.wrappers import Request, Response

from nameko.web._environ import Environ


class LazyRequest(Request):
    """A `Request` that is made of its environment when it is first looked at; it does not take one to get a body.

    :param path_values: the values in the URL; kept as an attribute
    """

    def __init__(self, environ: Environ, path_values: dict[str, Any]) -> None:
        attributes = self.__dict__
        attributes["environ"] = environ
        attributes["path_values"] = path_values

    def __getattr__(self, name: str) -> Any:
        _become_request(self)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "_cached_json":  # set by `get_json`, which needs nothing else
            _become_request(self)
        object.__setattr__(self, name, value)  # whose own it is may have changed

    def get_data(self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False) -> Any:
        """See `Request.get_data`."""
        read = self.__dict__.get("_read_body")
        if read is None:
            if parse_form_data or not self._body_is_at_hand():
                return super().get_data(cache, as_text, parse_form_data)  # type: ignore[call-overload]
            stream = self.environ["wsgi.input"]
            read = stream, stream.tell(), stream.read()
            if cache:
                self.__dict__["_read_body"] = read
        data: bytes = read[2]
        return data.decode(errors="replace") if as_text else data

    def _body_is_at_hand(self) -> bool:
        environ = self.environ
        return (
            type(environ["wsgi.input"]) is BytesIO
            and "wsgi.input_terminated" in environ
            and self.max_content_length is None
        )

    @property
    def is_json(self) -> bool:
        """See `Request.is_json`."""
        return self.environ.get("CONTENT_TYPE") == "application/json" or super().is_json


def _become_request(lazy: LazyRequest) -> None:
    read = lazy.__dict__.pop("_read_body", None)
    object.__setattr__(lazy, "__class__", Request)
    # The environment is not to refer to the request: that cycle would be left to the garbage collector each time.
    Request.__init__(lazy, lazy.environ, populate_request=False)
    if read is not None:
        stream, position, _ = read
        stream.seek(position)
        lazy.stream = stream
        lazy.get_data()  # again, to have it remember


class LazyHeaders(EnvironHeaders):
    """The headers of a request, read from its environment: without the list that the base class makes beside it.

    :param environ: of the request
    """

    def __init__(self, environ: Environ) -> None:
        self.environ = environ


class LazyResponse(Response):
    """A `Response` of text, which is made when it is first looked at.

    :param text: the body
    :param status: as `Response` takes it
    :param headers: as `Response` takes them
    """

    def __init__(self, text: str, status: Any, headers: Any) -> None:
        self.__dict__["lazy"] = (text, status, headers)

    def __getattr__(self, name: str) -> Any:
        _become_response(self)
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _become_response(self)
        setattr(self, name, value)


def _become_response(lazy: LazyResponse) -> None:
    text, status, headers = lazy.__dict__.pop("lazy")
    object.__setattr__(lazy, "__class__", Response)
    Response.__init__(lazy, text, status=status, headers=headers)


_DEFAULT_CONTENT_TYPE = ("Content-Type", "text/plain; charset=utf-8")
# Of responses that have a body.
_STATUS = {
    code: f"{code} {reason.upper()}"
    for code, reason in HTTP_STATUS_CODES.items()
    if code >= 200 and code not in (204, 205, 304)
}
# Werkzeug has something to say about these.
_NOT_PLAIN = frozenset({"location", "content-location", "content-length"})


def plain_parts(response: LazyResponse) -> tuple[str, list[tuple[str, str]], bytes] | None:
    """Status, headers and body, as the `Response` would have them; None if it takes a `Response` to tell."""
    text, code, headers = response.__dict__["lazy"]
    status = _STATUS.get(code) if type(code) is int else None
    if status is None:
        return None
    fields = [_DEFAULT_CONTENT_TYPE]
    if headers:
        if type(headers) is not dict:
            return None
        for name, value in headers.items():
            if type(name) is not str or type(value) is not str or name.lower() in _NOT_PLAIN:
                return None
            if name.lower() == "content-type":
                fields[0] = (name, value)
            else:
                fields.append((name, value))
    return status, fields, text.encode()
