"""Services and a client that run, to the letter, under this framework and under those before it.

The name of the service comes from the environment, so that the same module makes every peer; what it observes goes to
a file that all peers write to.
"""

import json
import os
import sys

from kombu import Exchange, Queue

from nameko.events import BROADCAST, SINGLETON, EventDispatcher, event_handler
from nameko.exceptions import deserialize_to_instance
from nameko.extensions import DependencyProvider
from nameko.messaging import Publisher, consume
from nameko.rpc import RpcProxy, rpc

PEERS = ("old_a", "old_b", "new_a", "new_b")
ORDERS = Queue("orders", exchange=Exchange("orders", durable=True), routing_key="order", durable=True)


def log(*words):
    line = " ".join(str(word) for word in words) + "\n"
    log_fd = os.open(os.environ["PEER_LOG"], os.O_WRONLY | os.O_APPEND)
    os.write(log_fd, line.encode())  # one write to a file opened for appending is whole, whichever process does it
    os.close(log_fd)


@deserialize_to_instance
class Known(Exception):
    """Comes back as itself."""


class Unregistered(Exception):
    """Comes back as a RemoteError."""


class Unprintable:
    """What no serializer can take."""

    def __repr__(self):
        return "<Unprintable>"


FAILURES = {
    "known": lambda: Known("a", 1, None, ["x", 2], {"k": 3}),
    "unregistered": lambda: Unregistered("a", 1, b"ab"),
    "value": lambda: ValueError("wrong: \xe9"),
    "empty": lambda: KeyError(),
}


def outcome(call, *args, **kwargs):
    """What a call leads to, in terms of JSON."""
    try:
        return {"result": call(*args, **kwargs)}
    except Exception as exc:
        described = {
            "type": type(exc).__name__,
            "module": type(exc).__module__,
            "str": str(exc),
            "exc_type": getattr(exc, "exc_type", None),
            "value": getattr(exc, "value", None),
        }
        if type(exc).__name__ not in ("RemoteError", "UnknownService"):
            described["args"] = exc.args
        return {"error": described}


class Context(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx


class Peer:
    name = os.environ.get("PEER_NAME", "client")

    worker_ctx = Context()
    dispatch = EventDispatcher()
    order = Publisher(exchange=ORDERS.exchange)

    old_a = RpcProxy("old_a")
    old_b = RpcProxy("old_b")
    new_a = RpcProxy("new_a")
    new_b = RpcProxy("new_b")
    nobody = RpcProxy("nobody")

    # -- what is called

    @rpc
    def echo(self, *args, **kwargs):
        return [args, kwargs]

    @rpc
    def one_argument(self, argument):
        return argument

    @rpc(expected_exceptions=Known)
    def fail(self, kind):
        raise FAILURES[kind]()

    @rpc
    def unserializable(self):
        return Unprintable()

    @rpc
    def who(self):
        return os.getpid()

    # -- who calls

    @rpc
    def call(self, callee, method, args=(), kwargs=None):
        return outcome(getattr(getattr(self, callee), method), *args, **(kwargs or {}))

    @rpc
    def call_many(self, callee, values):
        replies = [getattr(self, callee).echo.call_async(value) for value in values]
        return [reply.result() for reply in reversed(replies)]

    @rpc
    def chain(self, path):
        """What each service of the path sees of its context."""
        data = self.worker_ctx.context_data
        context = {key: data[key] for key in sorted(data) if key != "call_id_stack"}
        here = [self.name, list(self.worker_ctx.call_id_stack), context]
        return [here] + (getattr(self, path[0]).chain(path[1:]) if path else [])

    # -- events and messages

    @rpc
    def tell(self, event_type, numbers):
        for number in numbers:
            self.dispatch(event_type, number)

    @rpc
    def place(self, numbers):
        for number in numbers:
            self.order(number, routing_key="order")

    @event_handler("old_a", "handled_by_peers")
    @event_handler("new_a", "handled_by_peers")
    def handle(self, number):
        log("handled", self.name, number, self.worker_ctx.immediate_parent_call_id)


class Listener:
    """Hosted by several processes, of either framework, under one name."""

    name = "listener"

    @event_handler("old_a", "sold")
    @event_handler("new_a", "sold")
    def pool(self, number):
        log("pool", os.getpid(), number)

    @event_handler("old_a", "sold", handler_type=SINGLETON)
    @event_handler("new_a", "sold", handler_type=SINGLETON)
    def singleton(self, number):
        log("singleton", os.getpid(), number)

    @event_handler("old_a", "sold", handler_type=BROADCAST, reliable_delivery=False)
    @event_handler("new_a", "sold", handler_type=BROADCAST, reliable_delivery=False)
    def broadcast(self, number):
        log("broadcast", os.getpid(), number)

    @event_handler("old_a", "brief", reliable_delivery=False)
    def brief(self, number):
        log("brief", os.getpid(), number)

    @consume(ORDERS)
    def order(self, number):
        log("order", os.getpid(), number)

    @rpc
    def who(self):
        return os.getpid()


def standalone(uri, context_data, timeout):
    """A standalone proxy, with this framework's way of configuring it."""
    from nameko.standalone.rpc import ClusterRpcProxy

    if os.environ["PEER_CONFIG"] == "global":
        from nameko import config

        config.setup({"AMQP_URI": uri})
        return ClusterRpcProxy(context_data=context_data, timeout=timeout)
    return ClusterRpcProxy({"AMQP_URI": uri}, context_data=context_data, timeout=timeout)


def dispatcher(uri):
    """A standalone dispatcher, likewise."""
    from nameko.standalone.events import event_dispatcher

    if os.environ["PEER_CONFIG"] == "global":
        from nameko import config

        config.setup({"AMQP_URI": uri})
        return event_dispatcher()
    return event_dispatcher({"AMQP_URI": uri})


def do(uri, task):
    """Do what `task` says, from outside of any service; the outcome."""
    if "dispatch" in task:
        dispatch = dispatcher(uri)
        for number in task["numbers"]:
            dispatch(task["dispatch"], task["event_type"], number)
        return []
    outcomes = []
    with standalone(uri, task.get("context_data"), 20) as cluster:
        for service, method, args, kwargs in task["calls"]:
            outcomes.append(outcome(getattr(cluster[service], method), *args, **kwargs))
        pending = [cluster[service].echo.call_async(value) for service, value in task.get("async", ())]
        outcomes.extend(reply.result() for reply in reversed(pending))
    return outcomes


def main():
    """`main URI`: does each task that comes in as a line of JSON, and prints its outcome as one."""
    for line in sys.stdin:
        print(json.dumps(do(sys.argv[1], json.loads(line))), flush=True)
