from seen import note

from nameko.contextdata import Language
from nameko.events import event_handler
from nameko.rpc import rpc


class Greeter:
    """What web applications call."""

    name = "greeter"

    language = Language()

    @rpc
    def greet(self, visitor):
        if not visitor:
            raise ValueError("who is it?")
        return {"de": "Hallo"}.get(self.language, "Hello") + f", {visitor}!"

    @event_handler("website", "visited")
    def visited(self, visitor):
        note("visited", visitor=visitor)
