"""`nameko health`: names, arguments and help."""

from __future__ import annotations

from typing import Any

import click

from nameko.cli._options import ConfiguredCommand


@click.command(cls=ConfiguredCommand, checks=False, short_help="Ask a running process whether it is ready.")
@click.argument("target", required=False)
@click.option("--ready", "check", flag_value="ready", default="ready", help="Whether it can serve; the default.")
@click.option("--live", "check", flag_value="live", help="Whether it is alive, which it is when it answers.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=5,
    show_default=True,
    metavar="SECONDS",
    help="How long the answer may take in all.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    metavar="N",
    help="Ask each of the N processes of `nameko run --workers N`.",
)
@click.option("--json", "as_json", is_flag=True, help="Write each answer as a JSON object in a line of its own.")
@click.pass_context
def health(ctx: click.Context, /, **options: Any) -> int:
    """Ask a running process whether its services can serve, and if not, why.

    TARGET is `[host:]port`, or `unix:/path` or the path of a Unix socket, which has a `/` or is that of one there is.
    By default it is HEALTH_SOCKET of the configuration, or else HEALTH_ADDRESS, or else the socket of HEALTH_SOCKET:
    true.

    The exit status is 0 when all is well, 1 when it is not, 2 when the command line makes no
    sense, and 75 when no process answers.
    """
    from nameko.health import _asking

    return _asking.ask(ctx.obj, **options)
