"""`nameko amqp policies`: what an operator may set on the queues of services, as `rabbitmqctl` lines."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import click

from nameko.amqp._dead_letters import vhost_of
from nameko.amqp.settings import AmqpSettings

#: Where rejected messages go, if the policy for events is set.
REJECTED_QUEUE = "nameko.dead"

# nameko-rpc's own default: a message that nobody waits for any more need not be kept.
_DEFAULT_RPC_TIMEOUT_S = 300
# What RabbitMQ 4 has by default for quorum queues.
_DELIVERY_LIMIT = 20
# Those that retries have made of a queue are none of it.
_NO_DERIVED_QUEUE = r"(?!.*\.(dead|retry\.[0-9]+)$)"


def main(
    config: Mapping[str, Any], rpc_ttl: float | None, max_length: int | None, dead_ttl: float | None, quorum: bool
) -> None:
    """Print the lines.

    :param rpc_ttl: seconds after which requests expire; by default `RPC_TIMEOUT`
    :param max_length: of a queue, in messages
    :param dead_ttl: seconds after which parked messages expire
    :param quorum: whether queues are quorum queues
    """
    vhost = vhost_of(AmqpSettings.from_config(config)) if config.get("AMQP_URI") else "/"
    ttl_s = rpc_ttl if rpc_ttl is not None else config.get("RPC_TIMEOUT") or _DEFAULT_RPC_TIMEOUT_S
    if quorum:
        click.echo("# A new virtual host whose queues are quorum queues; RabbitMQ 3.11 or later:")
        click.echo(f"# rabbitmqctl add_vhost {shlex.quote(vhost)} --default-queue-type quorum")
        click.echo("# The first two policies limit deliveries. RabbitMQ applies none with that to a classic queue.")
    if max_length is not None:
        click.echo(
            "# Beware: the broker drops a message that comes back, for a further attempt, to a queue that is full."
        )
    limits = _limits(max_length, quorum)
    click.echo("# Requests expire when nobody waits for an answer any more.")
    click.echo(_line(vhost, "nameko-rpc", f"^rpc-{_NO_DERIVED_QUEUE}", {"message-ttl": round(ttl_s * 1000), **limits}))
    click.echo(f"# Events that are rejected, as nobody can read them, go to queue {REJECTED_QUEUE}. Make it first:")
    click.echo(f"# rabbitmqadmin -V {shlex.quote(vhost)} declare queue name={REJECTED_QUEUE} durable=true")
    dead_letters = {"dead-letter-exchange": "", "dead-letter-routing-key": REJECTED_QUEUE}
    click.echo(_line(vhost, "nameko-events", f"^evt-{_NO_DERIVED_QUEUE}", {**dead_letters, **limits}))
    if dead_ttl is not None:
        click.echo("# Parked messages are dropped after a while.")
        click.echo(_line(vhost, "nameko-dead", r"\.dead$", {"message-ttl": round(dead_ttl * 1000)}))


def _limits(max_length: int | None, quorum: bool) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if max_length is not None:
        limits.update({"max-length": max_length, "overflow": "reject-publish"})
    if quorum:
        limits["delivery-limit"] = _DELIVERY_LIMIT
    return limits


def _line(vhost: str, name: str, pattern: str, definition: Mapping[str, Any]) -> str:
    words = ["rabbitmqctl", "set_policy", "-p", vhost, name, pattern, json.dumps(definition), "--apply-to", "queues"]
    return shlex.join(words)
