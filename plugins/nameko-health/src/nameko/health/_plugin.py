"""What nameko-health tells the framework about itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from nameko.plugins import ConfigKey, hookimpl

if TYPE_CHECKING:
    import click

    from nameko.extensions import Extension


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """Where the health of a process is told."""
    from nameko.health._settings import ADDRESS_KEY, DEFAULT_PATH, PATH_KEY, SOCKET_KEY

    return [
        ConfigKey(
            ADDRESS_KEY,
            "str or int",
            None,
            "Where to tell whether the process lives and is ready, on an address of its own: `[host:]port` or "
            "`unix:/path`; without a host, on the loopback interface. Process n of several (`--workers`) has that "
            "port + n.",
        ),
        ConfigKey(
            SOCKET_KEY,
            "str or bool",
            None,
            "A Unix socket for `nameko health`, which only this user may connect to: a path, or `true` for "
            "`health.sock` in `$XDG_RUNTIME_DIR/nameko` or else `nameko-<user id>` in the directory for temporary "
            "files.",
        ),
        ConfigKey(
            PATH_KEY,
            "str or bool",
            DEFAULT_PATH,
            "At which path, with `/live` and `/ready` below it, there and on the service's web server; `false` keeps "
            "it off the web server.",
        ),
    ]


@hookimpl
def nameko_service_extensions() -> Mapping[str, Extension]:
    """The process answers for every service."""
    from nameko.health._extension import ServiceHealth

    return {"nameko_health": ServiceHealth()}


@hookimpl
def nameko_commands(cli: click.Group) -> None:
    """`nameko health`."""
    from nameko.health._command import health

    cli.add_command(health)
