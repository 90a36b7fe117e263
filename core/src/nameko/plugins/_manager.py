"""The plugin manager: loads the plugins that are found and selected, and hands out what they implement."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from logging import getLogger
from time import monotonic
from typing import TYPE_CHECKING, Any

import pluggy

from nameko import hookspecs
from nameko.exceptions import PluginError
from nameko.plugins._checks import describe_wrong_argument, find_fault
from nameko.plugins._declarations import ConfigKey, Stat
from nameko.plugins._discovery import ENTRY_POINT_GROUP, PluginInfo, Status, find_plugins, mark_duplicates
from nameko.plugins._failures import blaming, is_not_its_own
from nameko.plugins._named import describe_unknown_names, describe_unmet_requirements
from nameko.plugins._selection import CONFIG_KEY, DISABLE_VARIABLE, Selection

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.extensions import Extension

#: Marks a function of a plugin module as the implementation of the hook of the same name.
hookimpl = pluggy.HookimplMarker(hookspecs.PROJECT_NAME)

_log = getLogger(__name__)


class PluginManager:
    """The plugins of a process and what they implement. Without any, unless made by one of the class methods."""

    def __init__(self) -> None:
        self._pluggy = pluggy.PluginManager(hookspecs.PROJECT_NAME)
        self._pluggy.add_hookspecs(hookspecs)
        self._selection = Selection()
        self.plugins: list[PluginInfo] = []
        self._observers: dict[str, tuple[tuple[PluginInfo, Callable[..., Any]], ...]] = {}

    # -- loading

    @classmethod
    def with_plugins(cls, plugins: Mapping[str, object]) -> PluginManager:
        """A manager of exactly these plugins, modules or objects by name, whatever is installed.

        :raises PluginError: when one of them breaks the rules of the hooks
        """
        manager = cls()
        for name, plugin in _in_order_of_registration(plugins.items()):
            manager._register(PluginInfo(name, _target(plugin)), plugin)
        manager.check()
        return manager

    @classmethod
    def load(cls, selection: Selection, objects: Mapping[str, object] | None = None) -> PluginManager:
        """A manager of the installed plugins that are selected, each loaded by itself: one that fails hinders no other.

        What failed stands in `plugins`; `check()` raises it.

        :param objects: modules or objects to load besides them, by name
        """
        manager = cls()
        manager._selection = selection
        given = {PluginInfo(name, _target(plugin)): plugin for name, plugin in (objects or {}).items()}
        found = mark_duplicates([*find_plugins(selection), *given])
        for _, info in _in_order_of_registration((info.name, info) for info in found):
            if info in given:
                manager._register(info, given[info])
            elif info.status is Status.ENABLED:
                manager._import(info)
            else:
                manager.plugins.append(info)
        manager.plugins.sort(key=lambda info: (info.name, info.distribution or ""))
        return manager

    def _import(self, info: PluginInfo) -> None:
        from importlib_metadata import EntryPoint

        since_s = monotonic()
        try:
            plugin = EntryPoint(info.name, info.target, ENTRY_POINT_GROUP).load()
        except BaseException as exc:
            if is_not_its_own(exc, since_s):
                raise
            from nameko.import_failures import describe_import_failure

            problem = f"cannot be imported: {describe_import_failure(exc)}"
            self.plugins.append(info.with_status(Status.NOT_IMPORTABLE, problem))
        else:
            self._register(info, plugin)

    def _register(self, info: PluginInfo, plugin: object) -> None:
        self._observers.clear()
        try:
            fault = find_fault(self._pluggy, plugin) or self._register_with_pluggy(info.name, plugin)
        except Exception as exc:  # an attribute of the plugin may be anything
            fault = Status.INVALID_HOOK, f"its attributes cannot be read: {type(exc).__name__}: {exc}"
        self.plugins.append(info.with_status(*fault) if fault else info.with_status(Status.LOADED, ""))

    def _register_with_pluggy(self, name: str, plugin: object) -> tuple[Status, str] | None:
        twin = self._pluggy.get_name(plugin)
        if twin is not None:
            return Status.DUPLICATE, f"it is the same object as plugin {twin!r}"
        try:
            self._pluggy.register(plugin, name=name)
        except pluggy.PluginValidationError as exc:
            if self._pluggy.has_plugin(name):  # pluggy before 1.6 registers what it checks as it goes
                self._pluggy.unregister(name=name)
            problem = describe_wrong_argument(self._pluggy, plugin) or " ".join(str(exc).split())
            return Status.INVALID_HOOK, problem
        return None

    def check(self) -> None:
        """Check that every plugin that is selected is loaded, and every one that is required.

        :raises PluginError: naming the first one that is not, why, and how to do without it
        """
        broken = [info for info in self.plugins if info.broken]
        if broken:
            more = f" ({len(broken) - 1} more: see `nameko plugins --verbose`)" if len(broken) > 1 else ""
            raise PluginError(f"{_describe(broken[0])}{more}")
        for info in self.loaded:
            if info.distribution is None and not self.hooks_of(info.name):
                _log.warning("plugin %s has no hooks, so it does nothing: is that the module that was meant?", info)
        for problem in describe_unknown_names(self._selection, self.plugins):
            _log.warning("%s", problem)
        for problem in describe_unmet_requirements(self._selection, self.plugins):
            raise PluginError(problem)

    @property
    def loaded(self) -> list[PluginInfo]:
        """The plugins that take part."""
        return [info for info in self.plugins if info.status is Status.LOADED]

    def describe_loaded(self) -> str:
        """The plugins that take part, each with its distribution and version, in one line."""
        return ", ".join(map(str, self.loaded)) or "none"

    # -- what plugins implement

    def hooks_of(self, plugin_name: str) -> list[str]:
        """The hooks that a plugin implements."""
        callers = self._pluggy.get_hookcallers(self._pluggy.get_plugin(plugin_name)) or ()
        return sorted(caller.name for caller in callers)

    def observers(self, hook_name: str) -> tuple[tuple[PluginInfo, Callable[..., Any]], ...]:
        """The implementations of a hook in the order in which to call them: plugin and callable.

        Each callable takes all arguments of the hook, as keywords, and is the same for everybody who asks.
        """
        found = self._observers.get(hook_name)
        if found is None:
            found = self._observers[hook_name] = self._find_observers(hook_name)
        return found

    def _find_observers(self, hook_name: str) -> tuple[tuple[PluginInfo, Callable[..., Any]], ...]:
        hook = getattr(self._pluggy.hook, hook_name)
        arguments = frozenset(hook.spec.argnames)
        plugins = {info.name: info for info in self.loaded}
        return tuple(
            (plugins[impl.plugin_name], _accepting(arguments, impl.function, impl.argnames))
            for impl in reversed(hook.get_hookimpls())  # pluggy keeps the one to be called first at the end
        )

    def collect(self, hook_name: str, **arguments: Any) -> Iterator[tuple[PluginInfo, Any]]:
        """Call a hook and give what each plugin returned, with the plugin; None is left out.

        An implementation that raises is logged with its plugin and left out.
        """
        for plugin, function in self.observers(hook_name):
            result = None
            with blaming(plugin, hook_name):
                result = function(**arguments)
            if result is not None:
                yield plugin, result

    def collect_items(self, hook_name: str, cls: type, **arguments: Any) -> Iterator[tuple[PluginInfo, Any]]:
        """The items of the lists that the implementations of a hook return, each with its plugin.

        What is not an instance of `cls` is logged with the plugin and left out.
        """
        for plugin, result in self.collect(hook_name, **arguments):
            for item in result if isinstance(result, (list, tuple)) else (result,):
                if isinstance(item, cls):
                    yield plugin, item
                else:
                    kind = type(item).__name__
                    _log.error("plugin %s: %s must return a list of %s, not %s", plugin, hook_name, cls.__name__, kind)

    def config_keys(self) -> list[ConfigKey]:
        """The configuration keys that plugins declare."""
        return [key for _, key in self.collect_items("nameko_config_keys", ConfigKey)]

    def service_extensions(
        self, service_cls: type, config: Mapping[str, Any]
    ) -> list[tuple[PluginInfo, str, Extension]]:
        """What plugins attach to a service: plugin, name and unbound extension. See the hook for what is left out."""
        attached: dict[str, tuple[PluginInfo, str, Extension]] = {}
        for plugin, offer in self.collect("nameko_service_extensions", service_cls=service_cls, config=config):
            with blaming(plugin, "nameko_service_extensions"):  # the mapping is the plugin's own code, too
                for name, extension in _checked_offer(plugin, offer, service_cls):
                    if attached.setdefault(name, (plugin, name, extension))[2] is not extension:
                        _log.error("plugin %s: `%s` is left out, another plugin has attached one", plugin, name)
        return list(attached.values())

    def stats(self, container: ServiceContainer) -> list[Stat]:
        """The numbers that plugins give about a container."""
        return [stat for _, stat in self.collect_items("nameko_stats", Stat, container=container)]

    def not_ready_reasons(self, container: ServiceContainer) -> list[str]:
        """Why the container cannot serve right now, as plugins see it; one line each."""
        reasons: list[str] = []
        for plugin, is_ready in self.observers("nameko_ready"):
            since_s = monotonic()
            try:
                found = is_ready(container=container) or ()
                reasons += [found] if isinstance(found, str) else map(str, found)
            except BaseException as exc:
                if is_not_its_own(exc, since_s):
                    raise
                _log.exception("plugin %s: nameko_ready failed", plugin)
                reasons.append(f"plugin {plugin.name} cannot tell: {type(exc).__name__}")
        return reasons


def plugins_for(config: Mapping[str, Any]) -> PluginManager:
    """The installed plugins, as the configuration selects them. Loaded once for each selection.

    :raises PluginError: when one of them cannot be loaded, breaks the rules, or is required and missing
    :raises ConfigurationError: when the key `plugins` is malformed
    """
    return _checked_manager(Selection.from_config(config), tuple(sys.path))


@lru_cache(maxsize=8)
def _checked_manager(selection: Selection, path: tuple[str, ...]) -> PluginManager:
    # `path` belongs to the key since it decides what is installed. A failure is not kept.
    manager = PluginManager.load(selection)
    manager.check()
    return manager


def _target(plugin: object) -> str:
    return str(getattr(plugin, "__name__", type(plugin).__name__))


def _in_order_of_registration(plugins: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    # pluggy calls what was registered last first.
    return sorted(plugins, key=lambda item: item[0], reverse=True)


def _describe(info: PluginInfo) -> str:
    return f"plugin {info.name!r} ({info.origin}): {info.problem}; {_way_out(info)}"


def _way_out(info: PluginInfo) -> str:
    if info.distribution is None:
        return f"leave it out of `-p` and `{CONFIG_KEY}: load`"
    # Where several share a name, blocking that name would block them all.
    name = info.distribution if info.status is Status.DUPLICATE else info.name
    return f"block it with `-p no:{name}` or {DISABLE_VARIABLE}={name}"


def _accepting(arguments: frozenset[str], function: Callable[..., Any], taken: tuple[str, ...]) -> Callable[..., Any]:
    """`function` as something that can be given all `arguments` of its hook as keywords."""
    if arguments == set(taken):
        return function

    def call(**given: Any) -> Any:
        return function(*[given[name] for name in taken])

    call.__name__ = call.__qualname__ = getattr(function, "__name__", repr(function))
    return call


def _checked_offer(plugin: PluginInfo, offer: Any, service_cls: type) -> Iterator[tuple[str, Extension]]:
    from nameko.extensions import DependencyProvider, Entrypoint, Extension  # heavy; here they are loaded already

    if not isinstance(offer, Mapping):
        _log.error("plugin %s: nameko_service_extensions must return a mapping, not %s", plugin, type(offer).__name__)
        return
    for name, extension in offer.items():
        if not isinstance(extension, Extension) or extension.is_bound():
            kind = type(extension).__name__
            _log.error("plugin %s: `%s` is left out, it is no unbound extension but %s", plugin, name, kind)
        elif not isinstance(name, str):
            _log.error("plugin %s: an extension is left out, its name is no string but %r", plugin, name)
        elif isinstance(extension, DependencyProvider) and hasattr(service_cls, name):
            _log.error("plugin %s: `%s` is left out, %s has one of its own", plugin, name, service_cls.__name__)
        elif isinstance(extension, Entrypoint) and not callable(getattr(service_cls, name, None)):
            _log.error("plugin %s: `%s` is left out, %s has no such method", plugin, name, service_cls.__name__)
        else:
            yield name, extension
