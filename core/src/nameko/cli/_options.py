"""What the commands that read the configuration have in common: `-c`, `-d`, `-p`, and the options of plugins."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nameko.cli._working_directory import add_working_directory
from nameko.exceptions import CommandError, ConfigurationError

if TYPE_CHECKING:
    from nameko.plugins import PluginManager

_PLUGINS = f"{__name__}.plugins"
_CONFIG_PATH = f"{__name__}.config_path"
_PLUGIN_OPTIONS = f"{__name__}.plugin_options"
_PLUGIN_ARGUMENTS = f"{__name__}.plugin_arguments"


def plugin_option() -> click.Option:
    """`-p no:NAME` and `-p MODULE`, which every command and `nameko` itself take; they add up."""
    return click.Option(
        ["-p", "--plugin", "plugin_arguments"],
        multiple=True,
        expose_value=False,
        callback=_remember_plugin_arguments,
        metavar="no:NAME | MODULE",
        help="Block a plugin (no:NAME), or load a module as one. Repeatable.",
    )


def _remember_plugin_arguments(ctx: click.Context, _: click.Parameter, value: tuple[str, ...]) -> None:
    ctx.meta[_PLUGIN_ARGUMENTS] = (*ctx.meta.get(_PLUGIN_ARGUMENTS, ()), *value)


def command_plugins(ctx: click.Context) -> PluginManager:
    """The plugins that a `ConfiguredCommand` works with; broken ones are missing, unless they have stopped it."""
    if _PLUGINS not in ctx.meta:
        ctx.meta[_PLUGINS] = _load_plugins(ctx.obj, strict=False)
        warn_of_broken(ctx.meta[_PLUGINS])
    plugins: PluginManager = ctx.meta[_PLUGINS]
    return plugins


def config_path(ctx: click.Context) -> str | None:
    """The file that the configuration of a `ConfiguredCommand` is from; None when it is from none."""
    path: str | None = ctx.meta[_CONFIG_PATH]
    return path


def selected_config(ctx: click.Context) -> dict[str, Any]:
    """A configuration that holds nothing but what the `-p` options given so far say."""
    from nameko.cli._configuration import apply_plugin_arguments

    config: dict[str, Any] = {}
    apply_plugin_arguments(config, ctx.meta.get(_PLUGIN_ARGUMENTS, ()))
    return config


class ConfiguredCommand(click.Command):
    """A command that reads the configuration into `nameko.config` before it is called.

    :param hosts_services: whether it runs code of services: plugins may add options, a plugin that is broken stops it,
        and the standard library is monkey patched before anything else happens
    :param patches: whether it is, given the arguments
    :param logs: whether to configure logging as the configuration says
    :param checks: whether to check the configuration against the keys that plugins declare, which imports plugins
    :param default_config: a file to read when `--config` is not given; it need not exist
    """

    def __init__(
        self,
        *args: Any,
        hosts_services: bool = False,
        patches: Callable[[Sequence[str]], bool] = lambda args: True,
        logs: bool = False,
        checks: bool = True,
        default_config: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._hosts_services = hosts_services
        self._patches = patches
        self._logs = logs
        self._checks = checks
        self._default_config = default_config
        self.params += [*_config_options(), plugin_option()]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, those of plugins too: which ones are in use, `-c`, `-d` and `-p` say."""
        if self._hosts_services and self._patches(args):
            _monkey_patch()
        add_working_directory()
        wants_help = any(name in args for name in self.get_help_option_names(ctx))
        try:
            ctx.obj = self._read_config(ctx, args)
        except (CommandError, ConfigurationError) as exc:
            if not wants_help:
                raise
            click.echo(f"Warning: {exc}", err=True)
            ctx.obj = {}
        if self._hosts_services:
            ctx.meta[_PLUGINS] = plugins = _load_plugins(ctx.obj, strict=not wants_help)
            ctx.meta[_PLUGIN_OPTIONS] = _options_of(plugins, ctx.obj, self.params)
            warn_of_broken(plugins)
        return super().parse_args(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters of the command and those that plugins add."""
        return [*super().get_params(ctx), *ctx.meta.get(_PLUGIN_OPTIONS, ())]

    def invoke(self, ctx: click.Context) -> Any:
        """Publish the configuration as `nameko.config`, check it, and call the command."""
        from nameko.config import config as global_config

        global_config.setup(ctx.obj)
        if self._checks:
            from nameko.cli._configuration import check

            check(ctx.obj, command_plugins(ctx))
        return super().invoke(ctx)

    def _read_config(self, ctx: click.Context, args: Sequence[str]) -> dict[str, Any]:
        from nameko.cli._configuration import apply_plugin_arguments, configure_logging, read_config

        early = _parse_early(ctx, args)
        path = early["config_file"]
        if path is None and self._default_config is not None and os.path.exists(self._default_config):
            path = self._default_config
        ctx.meta[_CONFIG_PATH] = path
        config = read_config(path, early["defines"])
        apply_plugin_arguments(config, (*ctx.meta.get(_PLUGIN_ARGUMENTS, ()), *early["plugins"]))
        if self._logs:
            configure_logging(config)
        return config


def _config_options() -> list[click.Option]:
    return [
        click.Option(
            ["-c", "--config", "config_file"],
            type=click.Path(dir_okay=False),
            expose_value=False,
            help="YAML file with the configuration.",
        ),
        click.Option(
            ["-d", "--define", "defines"],
            multiple=True,
            expose_value=False,
            metavar="KEY=YAML",
            help="Set a configuration key, over the file. Repeatable.",
        ),
    ]


def _parse_early(ctx: click.Context, args: Sequence[str]) -> dict[str, Any]:
    # The options of plugins cannot be known before the plugins, nor those before the configuration.
    probe = click.Command(
        "probe",
        params=[
            click.Option(["-c", "--config", "config_file"]),
            click.Option(["-d", "--define", "defines"], multiple=True),
            click.Option(["-p", "--plugin", "plugins"], multiple=True),
        ],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    with probe.make_context(ctx.info_name, list(args), parent=None, resilient_parsing=True) as probed:
        return probed.params


def _monkey_patch() -> None:
    from nameko import concurrency

    if not concurrency.is_monkey_patched():
        concurrency.monkey_patch()


def _options_of(plugins: PluginManager, config: dict[str, Any], taken: Sequence[click.Parameter]) -> list[click.Option]:
    from nameko.cli._plugin_options import (
        plugin_options,
    )  # here, a process is patched before it imports anything of plugins

    return plugin_options(plugins, config, taken)


def _load_plugins(config: dict[str, Any], strict: bool) -> PluginManager:
    from nameko.plugins import PluginManager, Selection, plugins_for

    return plugins_for(config) if strict else PluginManager.load(Selection.from_config(config))


def warn_of_broken(plugins: PluginManager) -> None:
    """Say on stderr which plugins are missing since they are broken."""
    for info in plugins.plugins:
        if info.broken:
            click.echo(f"Warning: plugin {info.name!r} ({info.origin}): {info.problem}", err=True)
