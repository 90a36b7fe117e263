"""The broker that the peers share: its process, and clean queues before each run."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import amqp

# All that the peers declare; those of nameko are shared between its versions.
_QUEUES = (
    "rpc-relay",
    "rpc-guaranteed_loop",
    "rpc-echo",
    *(f"rpc-echo{number}" for number in range(50)),
    "evt-driver-happened--listener.handle",
    "bare-echo",
    "faststream-echo",
    "faststream-relay",
    "faststream-listener",
)
_EVENT = json.dumps("x" * 100)
_LISTENING = "0A"  # a state of TCP in /proc/net/tcp


def delete_queues(uri: str) -> None:
    """Remove what earlier runs have left behind."""
    with _connection(uri) as connection:
        channel = connection.channel()
        for queue in _QUEUES:
            channel.queue_delete(queue)  # succeeds where there is none


def publish_events(uri: str, count: int) -> None:
    """Publish so many events of the benchmark's service; when this returns, they are in their queue."""
    with _connection(uri) as connection:
        channel = connection.channel()
        for _ in range(count):
            event = amqp.Message(_EVENT, content_type="application/json", content_encoding="utf-8", delivery_mode=2)
            channel.basic_publish(event, "driver.events", "happened")
        channel.close()  # the broker answers when it is done with all that came before


def _connection(uri: str) -> amqp.Connection:
    parts = urlsplit(uri)
    return amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        virtual_host=unquote(parts.path[1:]) or "/",
    )


def broker_pid(uri: str) -> int | None:
    """The process that listens at the port of `uri`; None when it is not on this machine, or not to be seen."""
    port = f":{urlsplit(uri).port or 5672:04X}"
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(port) and fields[3] == _LISTENING:
                return _owner_of(f"socket:[{fields[9]}]")
    return None


def _owner_of(socket: str) -> int | None:
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if str(descriptor.readlink()) == socket:
                return int(descriptor.parts[2])
        except OSError:  # gone meanwhile, or somebody else's
            continue
    return None
