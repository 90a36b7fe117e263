"""How a command fails: one line on stderr and an exit status. Tracebacks are for bugs."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import click

from nameko.exceptions import CommandError, ConfigurationError, PluginError, TemporaryFailure

STATUS_FAILED = 1
STATUS_TEMPORARY_FAILURE = os.EX_TEMPFAIL
STATUS_INTERRUPTED = 130  # 128 + SIGINT, as shells have it

DEBUG_VARIABLE = "NAMEKO_DEBUG"

# What a group of commands raises, from click 8.2 on, when it is given none: its help is the message.
_NO_ARGUMENTS: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())

# What the operating system says to an address to listen on.
_ADDRESS_ERRORS = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def report(exc: BaseException) -> int:
    """Say on stderr what went wrong.

    :returns: the exit status
    :raises: `exc` itself when it is nothing that a user could have caused
    """
    status = _status(exc)
    if status is None:
        raise exc
    from nameko.masking import mask_text  # only needed when something is wrong

    if isinstance(exc, _NO_ARGUMENTS):
        click.echo(exc.format_message(), err=True)
        return status
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exception(exc)
    print(f"Error: {mask_text(' '.join(_message(exc).split()))}", file=sys.stderr)
    return status


def _status(exc: BaseException) -> int | None:
    if isinstance(exc, click.ClickException):
        return exc.exit_code
    if isinstance(exc, click.Abort):
        return STATUS_INTERRUPTED
    if isinstance(exc, TemporaryFailure):
        return STATUS_TEMPORARY_FAILURE
    if isinstance(exc, (CommandError, ConfigurationError, PluginError)):
        return STATUS_FAILED
    if isinstance(exc, OSError) and exc.errno in _ADDRESS_ERRORS:
        return STATUS_FAILED
    return None


def _message(exc: BaseException) -> str:
    if isinstance(exc, click.UsageError) and exc.ctx is not None:
        message = exc.format_message()
        return f"{message}{'' if message.endswith(('.', '?')) else '.'} See `{exc.ctx.command_path} --help`."
    if isinstance(exc, click.ClickException):
        return exc.format_message()
    if isinstance(exc, click.Abort):
        return "interrupted"
    return str(exc) or type(exc).__name__
