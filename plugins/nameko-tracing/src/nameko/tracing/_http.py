"""What there is to say of an HTTP request and its response, as far as it is certain to be said without werkzeug."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nameko.exceptions import BadRequest
from nameko.tracing._entrypoints import HTTP_HANDLER, base_named

if TYPE_CHECKING:
    from nameko.extensions import Entrypoint

_HTTP_EXCEPTION = "werkzeug.exceptions.HTTPException"


def request_attributes(headers: Any, entrypoint: Entrypoint) -> dict[str, Any]:
    """The attributes of a request.

    Neither its query nor, where the entrypoint has sensitive arguments, which may stand in it, its path.

    :param headers: of the request, with the `environ` that they are from
    """
    environ: Mapping[str, Any] = getattr(headers, "environ", {})
    found = {attribute: environ.get(key) for key, attribute in _ATTRIBUTES.items()}
    if entrypoint.sensitive_arguments:
        del found["url.path"]
    return {attribute: value for attribute, value in found.items() if value} | _host_and_port(environ.get("HTTP_HOST"))


def _host_and_port(host: str | None) -> dict[str, Any]:
    try:
        parts = urlsplit(f"//{host or ''}")
        found = {"server.address": parts.hostname, "server.port": parts.port}
    except ValueError:
        return {}
    return {attribute: value for attribute, value in found.items() if value}


_ATTRIBUTES = {
    "REQUEST_METHOD": "http.request.method",
    "PATH_INFO": "url.path",
    "wsgi.url_scheme": "url.scheme",
    "REMOTE_ADDR": "client.address",
    "HTTP_USER_AGENT": "user_agent.original",
}


def response_status(entrypoint: Any, result: Any, exc: BaseException | None) -> int | None:
    """The status of the response that the outcome of a method becomes; None when that is not certain.

    It is not where a subclass makes responses in a way of its own.
    """
    base: Any = base_named(type(entrypoint), {HTTP_HANDLER})
    name = "response_from_result" if exc is None else "response_from_exception"
    if getattr(type(entrypoint), name) is not getattr(base, name):
        return None
    return _status_of_result(result) if exc is None else _status_of_exception(exc, entrypoint)


def _status_of_result(result: Any) -> int | None:
    if isinstance(result, tuple):
        return result[0] if result and isinstance(result[0], int) else None
    status = getattr(result, "status_code", 200 if isinstance(result, str) else 500)
    return status if isinstance(status, int) else None


def _status_of_exception(exc: Any, entrypoint: Entrypoint) -> int | None:
    if isinstance(exc, (entrypoint.expected_exceptions, BadRequest)):
        return 400
    if base_named(type(exc), {_HTTP_EXCEPTION}):
        status = exc.get_response().status_code
        return status if isinstance(status, int) else None
    return 500
