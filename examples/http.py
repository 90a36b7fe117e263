"""The four kinds of results of an HTTP entrypoint's method, and a URL that serves several HTTP methods.

$ nameko run http
$ curl -i localhost:8000/get/42
$ curl -i -d "post body" localhost:8000/post
"""

import json

from nameko.web.handlers import http


class HttpService:
    name = "http_service"

    @http("GET", "/get/<int:value>")
    def get_method(self, request, value):
        return json.dumps({"value": value})

    @http("POST", "/post")
    def do_post(self, request):
        return f"received: {request.get_data(as_text=True)}"

    @http("GET,PUT,POST,DELETE", "/multi")
    def do_multi(self, request):
        return request.method
