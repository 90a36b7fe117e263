"""Dispatches an event from outside of any service: `python examples/events_dispatch.py BROKER_URI`."""

import sys

from nameko.standalone.events import event_dispatcher

config = {"AMQP_URI": sys.argv[1] if len(sys.argv) > 1 else "pyamqp://guest:guest@localhost"}

dispatch = event_dispatcher(config)
dispatch("monitor", "ping", {"from": "outside"})
