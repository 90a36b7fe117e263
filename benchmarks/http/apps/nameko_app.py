"""What nameko serves, ours and 2.14.1: `nameko run nameko_app`."""

import json

from nameko.web.handlers import http


class Service:
    name = "service"

    @http("GET", "/hello/<int:number>")
    def hello(self, request, number):
        return f"hello {number}"

    @http("POST", "/json")
    def json(self, request):
        document = json.loads(request.get_data(as_text=True))
        return 200, {"Content-Type": "application/json"}, json.dumps(document)
