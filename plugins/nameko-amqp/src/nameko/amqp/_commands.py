"""`nameko amqp`: names, arguments and help. What a command does is imported when it is invoked."""

from __future__ import annotations

from typing import Any

import click

from nameko.cli._options import ConfiguredCommand


class _BrokerCommand(ConfiguredCommand):
    """A command about the broker: takes `--broker`, and the configuration."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--broker"],
                metavar="URI",
                expose_value=False,
                callback=_set_uri,
                help="The broker to use. Sets AMQP_URI.",
            )
        )


def _set_uri(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.obj["AMQP_URI"] = value


@click.group(short_help="Look after parked messages and the broker's policies.")
def amqp() -> None:
    """Look after parked messages and the broker's policies."""


@amqp.group(short_help="Look at parked messages, give them back, or drop them.")
def dead() -> None:
    """Look at the messages that were parked after their last attempt, give them back to their queues, or drop them.

    QUEUE is the parking queue, `<queue>.dead`, or the queue whose messages are parked there.
    """


@dead.command("list", cls=_BrokerCommand, short_help="List parking queues and how many messages they have.")
@click.argument("queues", nargs=-1, metavar="[QUEUE]...")
@click.option(
    "--management",
    metavar="URL",
    help="RabbitMQ's management API, which is asked when no QUEUE is given; by default port 15672 of the broker, or "
    "15671, over TLS, where the broker is asked over TLS.",
)
@click.pass_context
def list_queues(ctx: click.Context, /, **options: Any) -> None:
    """List the parking queues, or those of each QUEUE, with the number of their messages."""
    from nameko.amqp import _dead_letters

    _dead_letters.list_queues(ctx.obj, **options)


@dead.command(cls=_BrokerCommand, short_help="Show parked messages.")
@click.argument("queue")
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many, from the oldest on."
)
@click.option("--json", "as_json", is_flag=True, help="Write a JSON object in each line.")
@click.pass_context
def show(ctx: click.Context, /, **options: Any) -> None:
    """Show the parked messages of QUEUE: why, since when, from where, and what they say. They stay where they are."""
    from nameko.amqp import _dead_letters

    _dead_letters.show(ctx.obj, **options)


@dead.command(cls=_BrokerCommand, short_help="Give parked messages back to their queue.")
@click.argument("queue")
@click.option("--limit", type=click.IntRange(min=1), help="How many, from the oldest on; all by default.")
@click.pass_context
def requeue(ctx: click.Context, /, **options: Any) -> None:
    """Give the parked messages of QUEUE back to where they came from; their attempts are counted anew."""
    from nameko.amqp import _dead_letters

    _dead_letters.requeue(ctx.obj, **options)


@dead.command(cls=_BrokerCommand, short_help="Drop parked messages.")
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def purge(ctx: click.Context, /, **options: Any) -> None:
    """Drop all parked messages of QUEUE."""
    from nameko.amqp import _dead_letters

    _dead_letters.purge(ctx.obj, **options)


@amqp.command(cls=_BrokerCommand, short_help="Print RabbitMQ policies for the queues of services.")
@click.option(
    "--rpc-ttl", type=click.FloatRange(min=1), metavar="SECONDS", help="RPC requests expire; RPC_TIMEOUT by default."
)
@click.option("--max-length", type=click.IntRange(min=1), metavar="N", help="Longer queues take no more messages.")
@click.option("--dead-ttl", type=click.FloatRange(min=1), metavar="SECONDS", help="Parked messages expire.")
@click.option("--quorum", is_flag=True, help="For quorum queues: also limit how often a message is delivered.")
@click.pass_context
def policies(ctx: click.Context, /, **options: Any) -> None:
    """Print `rabbitmqctl` lines with policies for the queues of services. Nothing is changed; review, then run them.

    Queues are declared without such properties, so that nameko 2.14 can share them.
    """
    from nameko.amqp import _policies

    _policies.main(ctx.obj, **options)
