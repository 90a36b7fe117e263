"""A bare echo loop with this project's guarantees, on its transport, and nothing else: what the framework could reach.

Persistent messages over nameko 2.14's exchange and queues, mandatory, both sides confirmed without stalling, a request
acknowledged when its reply is confirmed and a reply on receipt, two connections a process, a greenthread a call. The
caller does not wait for its request's confirm once the reply is there. Ids, wake-ups and greenthreads are the cheapest
that nameko has.
"""

import json
import os
import sys
import time
from itertools import takewhile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from clock import Clock

from nameko import concurrency
from nameko.amqp import wire
from nameko.amqp.transport import make_connection
from nameko.containers import new_call_id

EXCHANGE = "nameko-rpc"
SERVICE = "guaranteed_loop"


def connect(uri):
    """A channel on a connection of its own, which a greenthread reads."""
    connection = make_connection(uri, {})
    channel = connection.channel()
    channel.auto_decode = False

    def read():
        while True:
            connection.drain_events()

    concurrency.spawn(read)
    channel.exchange_declare(EXCHANGE, "topic", durable=True, auto_delete=False)
    return channel


class Publisher:
    """Publishes, and calls back when the broker confirms."""

    def __init__(self, uri):
        self._channel = connect(uri)
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._on_ack)
        self._channel.events["basic_return"].add(self._on_return)
        self._tag = 0
        self._unconfirmed = {}

    def publish(self, message, routing_key, on_confirmed):
        self._tag += 1
        self._unconfirmed[self._tag] = on_confirmed
        self._channel.basic_publish(message, EXCHANGE, routing_key, mandatory=True)

    def _on_ack(self, tag, multiple):
        tags = list(takewhile(lambda each: each <= tag, self._unconfirmed)) if multiple else [tag]
        for each in tags:
            self._unconfirmed.pop(each)()

    def _on_return(self, *arguments):
        raise RuntimeError(f"returned: {arguments}")


def message(body, **properties):
    return wire.OutboundMessage(
        json.dumps(body).encode(),
        {
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "delivery_mode": 2,
            "priority": 0,
            **properties,
        },
    )


def serve(uri, prefetch):
    publisher, channel = Publisher(uri), connect(uri)

    def answer(request):
        properties = request.properties
        body = json.loads(request.body)
        reply = message(
            {"result": body["args"][0], "error": None},
            correlation_id=properties["correlation_id"],
            application_headers={},
        )
        publisher.publish(reply, properties["reply_to"], lambda: channel.basic_ack(request.delivery_tag))

    queue = f"rpc-{SERVICE}"
    channel.queue_declare(queue, durable=True, auto_delete=False)
    channel.queue_purge(queue)
    channel.queue_bind(queue, EXCHANGE, f"{SERVICE}.*")
    channel.basic_qos(0, prefetch, False)
    channel.basic_consume(queue, "requests", callback=lambda request: concurrency.spawn_task(answer, request))
    print("READY", flush=True)
    concurrency.Event().wait()


def drive(uri, in_flight, seconds, payload):
    publisher, channel = Publisher(uri), connect(uri)
    routing_key = new_call_id()
    queue = f"rpc.reply-{SERVICE}-{routing_key}"
    pending = {}
    clock = Clock(seconds)

    def receive(reply):
        replied, replies = pending.pop(reply.properties["correlation_id"])
        replies.append(reply)
        replied.set()
        channel.basic_ack(reply.delivery_tag)

    def call():
        correlation_id = new_call_id()
        replied, replies = pending[correlation_id] = concurrency.Signal(), []
        request = message(
            {"args": [payload], "kwargs": {}},
            reply_to=routing_key,
            correlation_id=correlation_id,
            application_headers={"nameko.call_id_stack": [f"{SERVICE}.call.{correlation_id}"]},
        )
        publisher.publish(request, f"{SERVICE}.echo", lambda: None)
        replied.wait()
        json.loads(replies[0].body)

    def loop():
        while clock.running:
            started = time.perf_counter()
            call()
            clock.count(started)

    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-expires": 300_000})
    channel.queue_bind(queue, EXCHANGE, routing_key)
    channel.basic_consume(queue, "replies", callback=receive)
    for thread in [concurrency.spawn(loop) for _ in range(in_flight)]:
        thread.wait()
    clock.report()


role, case, uri, in_flight, seconds, size, _, workers = sys.argv[1:9]
if role == "service":
    serve(uri, int(workers))
else:
    drive(uri, int(in_flight), float(seconds), "x" * int(size))
    os._exit(0)
