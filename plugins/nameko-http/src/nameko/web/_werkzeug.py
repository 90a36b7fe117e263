"""The short way of werkzeug's responses to the wire, past the general WSGI protocol."""

from __future__ import annotations

from werkzeug.wrappers import Response

from nameko.web._environ import Environ
from nameko.web._lazy import LazyResponse, plain_parts
from nameko.web._response import ResponseWriter

# Fields that werkzeug rewrites when it turns a response into WSGI.
_REWRITTEN = frozenset({"location", "content-location"})
_BODILESS = frozenset({101, 204, 304})


def send_response(response: Response, environ: Environ, writer: ResponseWriter) -> None:
    """Send `response`, in the same form that calling it as a WSGI application gives it, and close it."""
    if type(response) is LazyResponse:
        parts = plain_parts(response)
        if parts is not None:
            writer.send_whole(*parts)
            return
    if _is_plain(response):
        try:
            writer.send_whole(response.status, response.headers, b"".join(response.response))  # type: ignore[arg-type]
        finally:
            response.close()
        return
    body = response(environ, writer.start_response)
    try:
        writer.send_body(body)
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()


def _is_plain(response: Response) -> bool:
    # Anything that a subclass might have changed goes the general way.
    return (
        type(response) is Response
        and type(response.response) is list
        and all(type(part) is bytes for part in response.response)
        and response.status_code >= 200
        and response.status_code not in _BODILESS
        and not any(name.lower() in _REWRITTEN for name, _ in response.headers)
    )
