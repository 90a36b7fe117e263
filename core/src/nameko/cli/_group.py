"""The `nameko` command: the built-in commands, those of plugins, and what happens when one of them fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from nameko.cli import commands
from nameko.cli._errors import DEBUG_VARIABLE, report
from nameko.cli._options import plugin_option, selected_config, warn_of_broken
from nameko.cli._working_directory import add_working_directory


class CommandLine(click.Group):
    """A group whose commands are those built in, and, once a name is typed that is none of them, those of plugins."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; see `nameko.cli.main.main` for the exit status."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            _refuse_foreign_package()
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except Exception as exc:
            status = report(exc)
        sys.exit(status if isinstance(status, int) else 0)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command `name`; a built-in one wins."""
        return super().get_command(ctx, name) or self._plugin_commands(ctx).get(name)

    def _plugin_commands(self, ctx: click.Context) -> dict[str, click.Command]:
        from nameko.cli._plugin_commands import collect_commands
        from nameko.plugins import PluginManager, Selection

        add_working_directory()
        plugins = PluginManager.load(Selection.from_config(selected_config(ctx)))
        warn_of_broken(plugins)
        return collect_commands(plugins, built_in=self.commands)


def _refuse_foreign_package() -> None:
    import nameko

    if getattr(nameko, "__file__", None) is not None:
        from nameko.cli._foreign import describe_foreign_package
        from nameko.exceptions import CommandError

        raise CommandError(describe_foreign_package(nameko.__file__))


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from nameko.plugins import installed_version

        click.echo(f"nameko {installed_version('nameko-core')}")
        ctx.exit()


@click.group(
    cls=CommandLine,
    name="nameko",
    commands=commands.BUILT_IN,
    params=[plugin_option()],
    epilog="Plugins may add commands: `nameko plugins --verbose` lists them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-v",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.option("--debug", is_flag=True, help=f"Show a traceback with each error, as {DEBUG_VARIABLE}=1 does.")
def cli(debug: bool) -> None:
    """Run and inspect nameko services."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
