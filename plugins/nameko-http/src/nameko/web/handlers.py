"""The HTTP entrypoint: `@http("GET", "/books/<int:book_id>")`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from logging import getLogger
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from nameko.containers import WorkerContext
from nameko.exceptions import BadRequest, ConfigurationError, ContainerBeingKilled, serialize
from nameko.extensions import Entrypoint, ExcInfo
from nameko.web._failures import internal_server_error, log_error
from nameko.web._lazy import LazyHeaders, LazyResponse
from nameko.web._outcome import Outcome
from nameko.web.server import WebServer

__all__ = ["HttpRequestHandler", "http"]

_log = getLogger(__name__)

_MAX_SHAPES = 100


class _NotAString(TypeError):
    """A payload that is no string: the one unexpected error whose text is the client's to see, as it is our own."""

    def __init__(self, payload: object) -> None:
        # Not the payload itself: it may be a secret.
        super().__init__(f"Payload must be a string, not {type(payload).__name__}")


class HttpRequestHandler(Entrypoint):
    """Runs a service method for each HTTP request of a URL.

    The method gets a werkzeug `Request` and the values in the URL, and returns a string, `(status, string)`,
    `(status, headers, string)` or a werkzeug `Response`. Subclasses change how requests become calls, and how outcomes
    become responses; see `response_from_exception` for the most common case.

    :param method: one HTTP method or several with commas between them, `"GET,PUT"`; GET answers HEAD too
    :param url: a werkzeug URL rule, `"/books/<int:book_id>"`
    """

    server = WebServer()

    def __init__(self, method: str, url: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.url = url
        self._accepted_shapes: set[tuple[Any, ...]] = set()

    def describe(self) -> Mapping[str, str]:
        """Which requests it answers."""
        return {"method": self.method, "url": self.url}

    def get_url_rule(self) -> Rule:
        """The werkzeug rule of this entrypoint.

        :raises ConfigurationError: when method or URL is not a string
        """
        for name, value, example in (
            ("HTTP method", self.method, "'GET' or 'GET,PUT'"),
            ("URL", self.url, "'/x/<int:y>'"),
        ):
            if not isinstance(value, str):
                where = f"{self.container.service_name}.{self.method_name}"
                raise ConfigurationError(f"{where}: the {name} must be a string like {example}, not {value!r}.")
        return Rule(self.url, methods=[method.strip() for method in self.method.split(",")])

    # -- life

    def setup(self) -> None:
        """Register with the server."""
        self.server.register_provider(self)

    def stop(self) -> None:
        """Leave the server, and wait for the requests in flight."""
        self.server.unregister_provider(self)
        self.server.drain()

    # -- a request

    def get_entrypoint_parameters(self, request: Request) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for the method: the request, and the values in the URL by their names."""
        return (request,), request.path_values  # type: ignore[attr-defined]

    def handle_request(self, request: Request) -> Response:
        """Run the method in a worker, and make a response of the outcome."""
        try:
            context_data = self.server.context_data_from_headers(request)
            args, kwargs = self.get_entrypoint_parameters(request)
            self._check_shape(args, kwargs)
            outcome = Outcome()
            self.container.run_worker(
                self,
                args,
                kwargs,
                context_data=context_data,
                handle_result=partial(self.handle_result, outcome),
                headers=LazyHeaders(request.environ),
            )
            result, exc = outcome.wait()
            if exc is None:
                return self.response_from_result(result)
        except (BadRequest, HTTPException, ContainerBeingKilled) as caught:
            exc = caught
        except Exception as caught:
            _log.exception("%r could not answer %s %s", self, request.method, request.path)
            exc = caught
        return self.response_from_exception(exc)

    def _check_shape(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Whether a method takes arguments depends on their number and names, and those of a URL are always the same.
        shape = (len(args), *kwargs)
        if shape not in self._accepted_shapes:
            self.check_signature(args, kwargs)
            if len(self._accepted_shapes) < _MAX_SHAPES:
                self._accepted_shapes.add(shape)

    def handle_result(
        self, event: Any, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None
    ) -> tuple[Any, ExcInfo | None]:
        """Called in the worker's greenthread with the outcome; `event.send` passes it on to the waiting request."""
        event.send(result, exc_info)
        return result, exc_info

    def response_from_result(self, result: Any) -> Response:
        """The response for what the method returned.

        :raises TypeError: when the payload is not a string
        """
        if isinstance(result, Response):
            return result
        status, headers, payload = 200, None, result
        if isinstance(result, tuple) and len(result) == 3:
            status, headers, payload = result
        elif isinstance(result, tuple) and len(result) == 2:
            status, payload = result
        if not isinstance(payload, str):
            raise _NotAString(payload)
        return LazyResponse(payload, status, headers)

    def response_from_exception(self, exc: BaseException) -> Response:
        """The response for what the method raised.

        Exceptions that are expected, or `BadRequest`, are the client's fault: status 400, with their type and text.
        Those of werkzeug (`NotFound`, ...) are answered as what they are. With anything else the client gets status 500
        and an id, under which the log has the rest; that a payload is no string it is told, too.
        """
        if isinstance(exc, (self.expected_exceptions, BadRequest)):
            return _error_response(400, type(exc).__name__, serialize(exc)["value"])
        if isinstance(exc, HTTPException):
            return exc.get_response()
        if isinstance(exc, ContainerBeingKilled):
            return Response("Error: Service Unavailable\n", status=503, mimetype="text/plain")
        what = f"{self.container.service_name}.{self.method_name}"
        if isinstance(exc, _NotAString):
            return _error_response(500, "TypeError", f"{exc}: {log_error(exc, what, traceback=False)}")
        return internal_server_error(exc, what, traceback=False)


def _error_response(status: int, exc_type: str, value: str) -> Response:
    return Response(f"Error: {exc_type}: {value}\n", status=status, mimetype="text/plain")


http = HttpRequestHandler.decorator
