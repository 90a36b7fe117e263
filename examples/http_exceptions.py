"""An HTTP entrypoint of one's own that answers the service's exceptions in JSON.

$ nameko run http_exceptions
$ curl -i http://localhost:8000/custom_exception
"""

import json

from werkzeug.wrappers import Response

from nameko.exceptions import safe_for_serialization
from nameko.web.handlers import HttpRequestHandler


class HttpError(Exception):
    error_code = "BAD_REQUEST"
    status_code = 400


class InvalidArgumentsError(HttpError):
    error_code = "INVALID_ARGUMENTS"


class HttpEntrypoint(HttpRequestHandler):
    def response_from_exception(self, exc):
        if isinstance(exc, HttpError):
            return Response(
                json.dumps({"error": exc.error_code, "message": safe_for_serialization(exc)}),
                status=exc.status_code,
                mimetype="application/json",
            )
        return HttpRequestHandler.response_from_exception(self, exc)


http = HttpEntrypoint.decorator


class Service:
    name = "http_service"

    @http("GET", "/custom_exception")
    def custom_exception(self, request):
        raise InvalidArgumentsError("Argument `foo` is required.")
