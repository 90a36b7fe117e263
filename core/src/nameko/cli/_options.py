"""What the commands that read the configuration have in common: `-c`, `-d`, `-p`, and the options of plugins."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from logging import getLogger
from typing import TYPE_CHECKING, Any

import click

from nameko.exceptions import CommandError, ConfigurationError

if TYPE_CHECKING:
    from nameko.plugins import ConfigKey, PluginManager, RunOption

_log = getLogger(__name__)

_PLUGINS = f"{__name__}.plugins"
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


def selected_config(ctx: click.Context) -> dict[str, Any]:
    """A configuration that holds nothing but what the `-p` options given so far say."""
    config: dict[str, Any] = {}
    _apply_plugin_arguments(config, ctx.meta.get(_PLUGIN_ARGUMENTS, ()))
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
            ctx.meta[_PLUGIN_OPTIONS] = _plugin_options(plugins, ctx.obj, self.params)
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
            _check(ctx.obj, command_plugins(ctx))
        return super().invoke(ctx)

    def _read_config(self, ctx: click.Context, args: Sequence[str]) -> dict[str, Any]:
        early = _parse_early(ctx, args)
        path = early["config_file"]
        if path is None and self._default_config is not None and os.path.exists(self._default_config):
            path = self._default_config
        config = read_config(path, early["defines"])
        _apply_plugin_arguments(config, (*ctx.meta.get(_PLUGIN_ARGUMENTS, ()), *early["plugins"]))
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


def read_config(path: str | None, defines: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration in the file at `path`, if any, with the `KEY=YAML` items of `defines` put over it.

    :raises ConfigurationError: when the file or a value is not what it should be
    """
    if path is None and not defines:
        return {}
    from nameko.config_yaml import load_config, load_yaml

    config = {} if path is None else load_config(path)
    for define in defines:
        key, equals, text = define.partition("=")
        if not equals or not key:
            raise click.UsageError(f"--define takes KEY=YAML, not {define!r}.")
        config[key] = load_yaml(text, f"--define {key}")
    return config


def _apply_plugin_arguments(config: dict[str, Any], arguments: Sequence[str]) -> None:
    """Put `-p` options into the configuration, where everything that selects plugins stands."""
    if not arguments:
        return
    from nameko.plugins import Selection

    Selection.from_config(config)  # refuses what could not be added to
    settings = dict(config.get("plugins") or {})
    for argument in arguments:
        blocked = argument.removeprefix("no:")
        key, name = ("load", argument) if blocked == argument else ("disable", blocked)
        settings[key] = [*(settings.get(key) or ()), name]
    config["plugins"] = settings


def configure_logging(config: dict[str, Any]) -> None:
    """Set up logging as `LOGGING` says (for `logging.config.dictConfig`), or plain messages from INFO on to stderr.

    :raises ConfigurationError: when `LOGGING` is not what `dictConfig` takes
    """
    import logging

    settings = config.get("LOGGING")
    if settings is None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        return
    import logging.config

    try:
        logging.config.dictConfig(settings)
    except (ValueError, TypeError, AttributeError, ImportError) as exc:
        cause = f": {exc.__cause__}" if exc.__cause__ else ""
        raise ConfigurationError(f"configuration key 'LOGGING': {exc}{cause}") from exc


def add_working_directory() -> None:
    """Let modules be imported from the current directory, as `python -m` does."""
    directory = os.getcwd()
    if os.path.exists("http.py"):  # the name of an example in nameko's documentation
        keep_standard_library("http")
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)


def keep_standard_library(name: str) -> None:
    """Make sure that `import name` finds the standard library's module and not one in the current directory."""
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if entry not in ("", os.getcwd())]
    try:
        importlib.import_module(name)
    finally:
        sys.path[:] = path


def _monkey_patch() -> None:
    from nameko import concurrency

    if not concurrency.is_monkey_patched():
        concurrency.monkey_patch()


def _load_plugins(config: dict[str, Any], strict: bool) -> PluginManager:
    from nameko.plugins import PluginManager, Selection, plugins_for

    return plugins_for(config) if strict else PluginManager.load(Selection.from_config(config))


def warn_of_broken(plugins: PluginManager) -> None:
    """Say on stderr which plugins are missing since they are broken."""
    for info in plugins.plugins:
        if info.broken:
            click.echo(f"Warning: plugin {info.name!r} ({info.origin}): {info.problem}", err=True)


def _check(config: dict[str, Any], plugins: PluginManager) -> None:
    from nameko.config_keys import check_types, declared_keys, suggestions

    keys = declared_keys(plugins.config_keys())
    for key, meant in suggestions(config, keys).items():
        _log.warning("configuration key %r is not known; did you mean %r?", key, meant)
    check_types(config, keys)


# -- options of plugins


def _plugin_options(
    plugins: PluginManager, config: dict[str, Any], taken: Sequence[click.Parameter]
) -> list[click.Option]:
    from nameko.config_keys import declared_keys
    from nameko.plugins import RunOption

    keys = declared_keys(plugins.config_keys())
    flags = {flag for parameter in taken for flag in parameter.opts} | {"--help"}
    options = []
    for plugin, option in plugins.collect_items("nameko_run_options", RunOption):
        if option.flag in flags:
            _log.warning("plugin %s: option %s is left out, it is taken", plugin, option.flag)
            continue
        flags.add(option.flag)
        options.append(_click_option(option, config, keys.get(option.config_key)))
    return options


def _click_option(option: RunOption, config: dict[str, Any], key: ConfigKey | None) -> click.Option:
    def set_key(_: click.Context, __: click.Parameter, text: str | None) -> None:
        if text is not None:
            config[option.config_key] = text if key is not None and key.type == "str" else _parse(option.flag, text)

    help_text = f"{option.help} Sets {option.config_key}."
    return click.Option(
        [option.flag],
        metavar=option.metavar,
        help=help_text,
        envvar=option.envvar,
        show_envvar=option.envvar is not None,
        expose_value=False,
        callback=set_key,
    )


def _parse(flag: str, text: str) -> Any:
    from nameko.config_yaml import load_yaml

    return load_yaml(text, flag)
