"""The built-in commands: names, arguments, help. What a command does is imported when it is invoked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from nameko.cli._options import ConfiguredCommand, command_plugins, config_path
from nameko.cli._supervisor_link import supervisor_fd, wants_supervisor


def _patches_run(args: Sequence[str]) -> bool:
    return not wants_supervisor(args)  # which hosts no service, and waits in native code


@click.command(cls=ConfiguredCommand, hosts_services=True, patches=_patches_run, logs=True, short_help="Run services.")
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@click.option("--backdoor", is_flag=True, help="Open a Unix socket on which `nameko backdoor` finds a Python prompt.")
@click.option("--backdoor-port", metavar="[HOST:]PORT", help="The same on a loopback TCP port, for every local user.")
@click.option(
    "--workers", type=click.IntRange(1, 1024), metavar="N", help="Run N processes, and replace one that dies."
)
@click.option("--reload", is_flag=True, help="Start anew when a source file changes; for development.")
@click.option(
    "--reload-dir",
    "reload_dirs",
    multiple=True,
    metavar="DIR",
    help="What to watch; by default the current directory.",
)
def run(workers: int | None, reload: bool, reload_dirs: tuple[str, ...], **options: Any) -> int:
    """Run services: every class with entrypoints in MODULE, or CLASS alone.

    SIGTERM and Ctrl-C let workers finish and stop; the second one kills.
    """
    if reload_dirs and not reload:
        raise click.UsageError("--reload-dir needs --reload.")
    if options["backdoor_port"] is not None and (workers or 1) > 1:
        raise click.UsageError("--backdoor-port cannot be shared by several processes: use --backdoor.")
    if supervisor_fd() is None and (workers is not None or reload):
        from nameko.cli import supervise

        return supervise.main(workers or 1, reload, reload_dirs)
    from nameko.cli import run as implementation

    return implementation.main(**options)


def _patches_shell(args: Sequence[str]) -> bool:
    # bpython and greenthreads do not get along; what it needs of nameko works without them.
    return not any(argument.endswith("bpython") for argument in args)


@click.command(
    cls=ConfiguredCommand,
    hosts_services=True,
    patches=_patches_shell,
    short_help="Open a Python shell that talks to services.",
)
@click.option("--interface", type=click.Choice(["bpython", "ipython", "plain"]), help="The kind of shell.")
@click.option(
    "--run",
    "services",
    multiple=True,
    metavar="MODULE[:CLASS]",
    help="Run services in the shell's own process, which needs no broker. Repeatable.",
)
def shell(**options: Any) -> int:
    """Open a Python shell whose object `n` talks to services: n.rpc.service.method(), n.dispatch_event(...), n.config.

    Reads a script from standard input when that is not a terminal; status 1 when it raises.
    """
    from nameko.cli import shell as implementation

    return implementation.main(**options)


@click.command(
    "show-config", cls=ConfiguredCommand, default_config="config.yaml", short_help="Show the configuration as YAML."
)
@click.option("--reveal", is_flag=True, help="Show passwords and other secrets.")
@click.option("--defaults", is_flag=True, help="Show, as comments, the keys that are not set, with their defaults.")
@click.pass_context
def show_config(ctx: click.Context, /, **options: Any) -> None:
    """Show the configuration as YAML, environment variables filled in, secrets hidden.

    Reads config.yaml when no file is given and there is one.
    """
    from nameko.cli import show_config as implementation

    implementation.main(command_plugins(ctx), **options)


@click.command(short_help="Connect to the Python prompt of a running process.")
@click.argument("target", required=False, metavar="[PID | SOCKET | [HOST:]PORT]")
@click.option("--rlwrap/--no-rlwrap", hidden=True, expose_value=False, help="Accepted and ignored, as in nameko 2.")
def backdoor(**options: Any) -> int:
    """Connect to the Python prompt of a process that was started with `nameko run --backdoor`.

    Without an argument: the only such process of this user.
    """
    from nameko.cli import backdoor as implementation

    return implementation.main(**options)


@click.command(
    add_help_option=False,
    short_help="Run pytest with the standard library monkey patched.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST ARGUMENTS]...")
def test(**options: Any) -> int:
    """Run pytest with the standard library monkey patched. All arguments are pytest's, and so is the exit status."""
    from nameko.cli import test as implementation

    return implementation.main(**options)


@click.command(cls=ConfiguredCommand, checks=False, short_help="List the installed plugins.")
@click.option("--verbose", is_flag=True, help="Import each plugin and list its hooks, extensions, keys and commands.")
@click.option("--check", is_flag=True, help="Import each plugin; status 1 when one cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
def plugins(**options: Any) -> int:
    """List the installed plugins: name, distribution, version, status.

    Without --verbose or --check no plugin is imported: `enabled` then means that it is installed and not blocked.
    """
    from nameko.cli import plugins as implementation

    return implementation.main(**options)


@click.group(short_help="Make a plugin of your own.")
def plugin() -> None:
    """Make a plugin of your own."""


@plugin.command("new", short_help="Write a distribution that brings a plugin.")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice(["entrypoint", "dependency", "observer", "command"]),
    multiple=True,
    default=["observer"],
    show_default=True,
    help="What the plugin brings. Repeatable.",
)
@click.option(
    "--directory",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    show_default=True,
    help="Where to make the directory NAME.",
)
def new_plugin(**options: Any) -> None:
    """Write a distribution that brings a plugin into a new directory NAME, complete with tests.

    NAME is the name of the distribution, as in acme-audit. Nothing is downloaded.
    """
    from nameko.cli import new_plugin as implementation

    implementation.main(**options, built_in_commands=[str(command.name) for command in BUILT_IN])


@click.command(
    "migrate-check",
    cls=ConfiguredCommand,
    hosts_services=True,
    checks=False,
    short_help="Say what differs for services of nameko 2.14.",
)
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@click.option("--strict", is_flag=True, help="Status 1 when there are notes, too.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@click.pass_context
def migrate_check(ctx: click.Context, /, **options: Any) -> int:
    """Import services that were written for nameko 2.14 and say what is different: where, and what to do about it.

    Nothing is started. Importing a module runs what stands outside functions, so a script needs
    `if __name__ == "__main__":` before it is named here. Give the configuration with --config to have it checked too.
    A finding is an `action`, which needs a change or a decision, or a `note`, which needs neither unless somebody
    relies on what was. Status 1 when there are actions.
    """
    from nameko.cli import migrate_check as implementation

    return implementation.main(command_plugins(ctx), config_file=config_path(ctx), **options)


@click.command(
    cls=ConfiguredCommand, hosts_services=True, short_help="Show services: entrypoints, dependencies, queues."
)
@click.argument("services", nargs=-1, required=True, metavar="MODULE[:CLASS]...")
@click.option(
    "-f",
    "--format",
    "format_name",
    type=click.Choice(["table", "json", "mermaid", "dot", "svg", "png"]),
    default="table",
    show_default=True,
    help="A graph is of who calls and listens to whom; svg and png need graphviz.",
)
@click.option("-o", "--output", type=click.File("wb", lazy=True), default="-", help="Write to a file.")
def services(output: Any, format_name: str, **options: Any) -> None:
    """Show what services consist of: entrypoints, dependencies, queues. Nothing is started, and no broker is needed."""
    if format_name == "png" and output.name == "-" and output.isatty():
        raise click.UsageError("--format png is not for a terminal: say --output FILE, or pipe it somewhere.")
    from nameko.cli import services as implementation

    implementation.main(output=output, format_name=format_name, **options)


BUILT_IN: tuple[click.Command, ...] = (
    run,
    shell,
    show_config,
    backdoor,
    test,
    plugins,
    plugin,
    services,
    migrate_check,
)
