import json

from nameko_sentry import SentryReporter

from nameko.rpc import rpc
from nameko.web.handlers import http


class Expected(Exception):
    """What can happen."""


class Broken:
    name = "broken"

    sentry = SentryReporter()

    @rpc(expected_exceptions=Expected)
    def fail(self, how):
        raise Expected(how) if how == "as expected" else ValueError(how)

    @http("POST", "/orders")
    def order(self, request):
        raise RuntimeError(f"no {json.loads(request.get_data())['article']}")

    @rpc
    def breathe(self):
        self.sentry.captureMessage("still alive")
