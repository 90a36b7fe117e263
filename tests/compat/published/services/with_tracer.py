from nameko_tracer import Tracer

from nameko.rpc import rpc
from nameko.web.handlers import http


class Refused(Exception):
    """What can happen."""


class Traced:
    name = "traced"

    tracer = Tracer()

    @rpc(sensitive_arguments="card.number", expected_exceptions=Refused)
    def pay(self, amount, card):
        if amount > 100:
            raise Refused(amount)
        return {"paid": amount}

    @http("GET", "/receipts/<int:number>")
    def receipt(self, request, number):
        return 200, f"receipt {number}"
