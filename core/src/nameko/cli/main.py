"""The entry point of the `nameko` command."""

from __future__ import annotations

from collections.abc import Sequence

from nameko.cli._group import cli


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    :param args: the arguments; those of the process by default
    :raises SystemExit: always. Status 0: done; 1: it cannot be done, as one line on stderr says; 2: wrong usage;
        75: what it needs is not there right now, try again later; 128 + n: ended by signal n.
    """
    cli.main(args, prog_name="nameko")


def setup_yaml_parser() -> None:
    """Teach `yaml.safe_load` what nameko's configuration files can do: `${VAR}`, `!env_var` and `!raw_env_var`.

    For programs that read such files themselves. nameko's own commands do not need it.
    """
    import yaml

    from nameko.config_yaml import add_env_var_support

    add_env_var_support(yaml.SafeLoader)
