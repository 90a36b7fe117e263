"""What the services that tests write have at hand: their modules begin with `from harness.prelude import *`."""

import os
import signal
import time

from harness.journal import log, logged
from harness.readiness import Readiness
from nameko import concurrency
from nameko.amqp import Retry
from nameko.events import BROADCAST, SERVICE_POOL, SINGLETON, EventDispatcher, event_handler
from nameko.messaging import Publisher, consume
from nameko.rpc import ClusterRpc, RpcProxy, rpc
from nameko.timer import timer

__all__ = [
    "BROADCAST",
    "SERVICE_POOL",
    "SINGLETON",
    "ClusterRpc",
    "EventDispatcher",
    "Publisher",
    "Readiness",
    "Retry",
    "RpcProxy",
    "concurrency",
    "consume",
    "event_handler",
    "log",
    "logged",
    "os",
    "rpc",
    "signal",
    "time",
    "timer",
]
