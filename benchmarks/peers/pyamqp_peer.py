"""A bare py-amqp loop with plain sockets and no guarantee of any kind: the limit of the protocol library."""

import json
import os
import sys
import time
from urllib.parse import unquote, urlparse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import amqp
from clock import Clock


def connect(uri):
    parts = urlparse(uri)
    connection = amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=parts.username,
        password=parts.password,
        virtual_host=unquote(parts.path[1:]) or "/",
    )
    connection.connect()
    return connection, connection.channel()


def serve(uri):
    connection, channel = connect(uri)
    channel.queue_declare("bare-echo", durable=True, auto_delete=False)
    channel.queue_purge("bare-echo")

    def answer(message):
        request = json.loads(message.body)
        reply = amqp.Message(json.dumps({"result": request["args"][0]}), correlation_id=message.correlation_id)
        channel.basic_publish(reply, routing_key=message.reply_to)

    channel.basic_consume("bare-echo", no_ack=True, callback=answer)
    print("READY", flush=True)
    while True:
        connection.drain_events()


def drive(uri, concurrency, seconds, payload):
    connection, channel = connect(uri)
    reply_queue = channel.queue_declare(exclusive=True).queue
    clock = Clock(seconds)
    pending = {}
    body = json.dumps({"args": [payload], "kwargs": {}})

    def send(key):
        pending[key] = time.perf_counter()
        request = amqp.Message(body, correlation_id=key, reply_to=reply_queue)
        channel.basic_publish(request, routing_key="bare-echo")

    def receive(message):
        json.loads(message.body)
        clock.count(pending.pop(message.correlation_id))
        if clock.running:
            send(message.correlation_id)

    channel.basic_consume(reply_queue, no_ack=True, callback=receive)
    for number in range(concurrency):
        send(str(number))
    while pending:
        connection.drain_events()
    clock.report()


role, case, uri, concurrency, seconds, size = sys.argv[1:7]
if role == "service":
    serve(uri)
else:
    drive(uri, int(concurrency), float(seconds), "x" * int(size))
