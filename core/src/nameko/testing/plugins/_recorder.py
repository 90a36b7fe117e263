"""A plugin that keeps what hooks were called with."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

from nameko import hookspecs
from nameko.plugins import hookimpl
from nameko.plugins._checks import HOOK_NAMES
from nameko.testing.plugins._waiting import DEFAULT_TIMEOUT_S, wait_until

_MARK = f"{hookspecs.PROJECT_NAME}_impl"


@dataclass(frozen=True)
class HookCall:
    """One call of a hook.

    :param hook: its name
    :param arguments: what it was called with, by name
    :param result: what the implementation returned; None when it raised
    :param exception: what it raised
    """

    hook: str
    arguments: Mapping[str, Any]
    result: Any = None
    exception: BaseException | None = None

    def __getitem__(self, name: str) -> Any:
        """The argument `name`."""
        return self.arguments[name]


class HookRecorder:
    """A plugin that implements hooks by noting their calls, or stands for another one and notes those of its hooks.

    ::

        seen = HookRecorder()
        with run_service(Service, plugins=[seen]) as container:
            ...
        assert seen.hooks == ["nameko_container_started", "nameko_container_stopped"]

    :param plugin: the plugin to stand for: its implementations are called, and what they return or raise is noted and
        passed on. Without one, the hooks return None.
    :param hooks: which hooks to implement, by name; by default all, or all that the plugin has
    """

    def __init__(self, plugin: object | None = None, hooks: Iterable[str] | None = None) -> None:
        self.calls: list[HookCall] = []
        self.__name__ = (
            type(self).__name__ if plugin is None else str(getattr(plugin, "__name__", type(plugin).__name__))
        )
        wanted = HOOK_NAMES if hooks is None else frozenset(hooks)
        for name, function in _silent() if plugin is None else _implementations(plugin):
            if name in wanted:
                setattr(self, name, self._recording(name, function))

    @property
    def hooks(self) -> list[str]:
        """The names of the hooks that were called, in order."""
        return [call.hook for call in self.calls]

    def of(self, hook: str) -> list[HookCall]:
        """The calls of one hook."""
        return [call for call in self.calls if call.hook == hook]

    def wait_for(self, hook: str, number: int = 1, timeout_s: float = DEFAULT_TIMEOUT_S) -> HookCall:
        """Wait until a hook has been called `number` times since the recorder was made; the last of these calls.

        :raises AssertionError: when it has not within `timeout_s` seconds
        """
        wait_until(
            lambda: len(self.of(hook)) >= number,
            timeout_s,
            lambda: f"{hook} is called {number} times; called were {self.hooks}",
        )
        return self.of(hook)[number - 1]

    def _recording(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @wraps(function)  # pluggy, too, reads the arguments of what is wrapped
        def implementation(*args: Any, **kwargs: Any) -> Any:
            arguments = signature.bind(*args, **kwargs).arguments
            try:
                result = function(**arguments)
            except BaseException as exc:
                self.calls.append(HookCall(name, arguments, exception=exc))
                raise
            self.calls.append(HookCall(name, arguments, result))
            return result

        options = getattr(function, _MARK, {})
        return hookimpl(implementation, tryfirst=options.get("tryfirst", False), trylast=options.get("trylast", False))


def _silent() -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in HOOK_NAMES:
        yield name, getattr(hookspecs, name)  # whose body is a docstring: it returns None


def _implementations(plugin: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    for attribute in dir(plugin):
        function = getattr(plugin, attribute)
        options = getattr(function, _MARK, None)
        if options is not None:
            yield options.get("specname") or attribute, function
