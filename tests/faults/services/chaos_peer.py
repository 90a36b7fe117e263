"""A service of the chaos run: the same under this framework and under nameko 2.14. Its name is in the environment."""

import os

from harness.journal import log
from nameko.events import event_handler
from nameko.rpc import rpc

NAME = os.environ["CHAOS_NAME"]


class Peer:
    name = NAME

    @rpc
    def echo(self, number):
        log("ran", NAME, number)
        return number

    @event_handler("chaos", "happened")
    def handle(self, number):
        log("effect", NAME, number)
