"""Two services with every kind of entrypoint. Nothing to configure, no broker to install:

uv run nameko run examples.quickstart
"""

from datetime import datetime

from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc
from nameko.timer import timer
from nameko.web.handlers import http


class Greeter:
    """Greets whoever it is told to, and lets everybody know."""

    name = "greeter"

    dispatch = EventDispatcher()

    @rpc
    def greet(self, visitor):
        self.dispatch("greeted", {"visitor": visitor})
        return f"Hello, {visitor}!"


class Reception:
    """Calls the greeter, and listens to what it lets everybody know."""

    name = "reception"

    greeter = RpcProxy("greeter")

    @http("GET", "/greet/<visitor>")
    def welcome(self, request, visitor):
        return self.greeter.greet(visitor) + "\n"

    @event_handler("greeter", "greeted")
    def note(self, event):
        print(f"event: {event['visitor']} was greeted")

    @timer(interval=3)
    def talk_to_the_clock(self):
        print("timer:", self.greeter.greet(f"it is {datetime.now():%H:%M:%S}"))
