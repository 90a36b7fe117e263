"""HTTP responses with a status, with headers, and made by hand.

$ nameko run advanced_http
$ curl -i localhost:8000/privileged
$ curl -i localhost:8000/headers
$ curl -i localhost:8000/custom
"""

from werkzeug.wrappers import Response

from nameko.web.handlers import http


class Service:
    name = "advanced_http_service"

    @http("GET", "/privileged")
    def forbidden(self, request):
        return 403, "Forbidden"

    @http("GET", "/headers")
    def redirect(self, request):
        return 201, {"Location": "https://www.example.com/widget/1"}, ""

    @http("GET", "/custom")
    def custom(self, request):
        return Response("payload")
