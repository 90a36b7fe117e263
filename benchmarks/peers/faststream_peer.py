"""FastStream on RabbitMQ."""

import asyncio
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from clock import Clock, Handled
from faststream import FastStream
from faststream.rabbit import RabbitBroker, RabbitExchange, RabbitQueue


def echo_of(broker):
    @broker.subscriber(RabbitQueue("faststream-echo", durable=True))
    async def echo(value: str) -> str:
        return value


def relay_of(broker):
    @broker.subscriber(RabbitQueue("faststream-relay", durable=True))
    async def relay(value: str) -> str:
        answer = await broker.request(value, "faststream-echo", timeout=60)
        return await answer.decode()


EVENTS = RabbitExchange("faststream-events", durable=True)


def listener_of(broker):
    @broker.subscriber(RabbitQueue("faststream-listener", durable=True), EVENTS)
    async def handle(value: str) -> None:
        handled.count()


handled = Handled()

SERVICES = {"rpc": [echo_of], "nested": [echo_of, relay_of], "events": [listener_of]}


async def drive(broker, case, concurrency, seconds, payload):
    queue = {"rpc": "faststream-echo", "nested": "faststream-relay"}.get(case)
    clock = Clock(seconds)

    async def act():
        if queue is None:
            await broker.publish(payload, "faststream-listener", EVENTS, persist=True)
        else:
            answer = await broker.request(payload, queue, timeout=60)
            await answer.decode()

    async def loop():
        while clock.running:
            started = time.perf_counter()
            await act()
            clock.count(started)

    await asyncio.gather(*[loop() for _ in range(concurrency)])
    clock.report()


async def main():
    role, case, uri, concurrency, seconds, size = sys.argv[1:7]
    broker = RabbitBroker(uri.replace("pyamqp:", "amqp:"), logger=None)
    if role == "service":
        for declare in SERVICES[case]:
            declare(broker)
        app = FastStream(broker, logger=None)

        @app.after_startup
        async def ready():
            print("READY", flush=True)

        await app.run()
    else:
        await broker.start()
        await drive(broker, case, int(concurrency), float(seconds), "x" * int(size))
        os._exit(0)


asyncio.run(main())
