"""What watches a container, its workers and their calls: the observer hooks, bound once per container.

A hook that nobody implements is an empty tuple here, so that it costs a worker one truth test. An observer that raises
is logged with its plugin's name and version, not each time when it goes on to, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from nameko._failing_observers import report_failure, tell_what_is_left
from nameko.plugins._failures import is_not_its_own

#: A callable together with whom to blame: a `PluginInfo`, or a name.
Observer = tuple[object, Callable[..., Any]]

#: The hooks that are called with keyword arguments and whose results are ignored.
OBSERVER_HOOKS = (
    "nameko_container_started",
    "nameko_container_stopped",
    "nameko_container_killed",
    "nameko_worker_started",
    "nameko_worker_result",
    "nameko_worker_finished",
    "nameko_call_started",
    "nameko_call_finished",
)


class Observers:
    """The observers of one container, or of a client outside of services.

    :param implementations: who implements what: `implementations(hook_name)` gives `(plugin, callable)` pairs, which
        take the hook's arguments as keywords, all of them
    """

    def __init__(self, implementations: Callable[[str], tuple[Observer, ...]] = lambda hook_name: ()) -> None:
        self.container_started = implementations("nameko_container_started")
        self.container_stopped = implementations("nameko_container_stopped")
        self.container_killed = implementations("nameko_container_killed")
        self.worker_started = implementations("nameko_worker_started")
        self.worker_result = implementations("nameko_worker_result")
        self.worker_finished = implementations("nameko_worker_finished")
        self.call_started = implementations("nameko_call_started")
        self.call_finished = implementations("nameko_call_finished")

    @property
    def observe_calls(self) -> bool:
        """Whether anybody wants to know of outgoing calls."""
        return bool(self.call_started or self.call_finished)

    @contextmanager
    def attached(self, name: str, **callables: Callable[..., Any]) -> Iterator[None]:
        """Observe for the length of the block: `attached("me", worker_finished=fn)`.

        :param name: what to call the observer in the log
        :param callables: by the name of the hook without `nameko_`; each takes the hook's arguments as keywords
        :raises ValueError: when there is no such hook
        """
        for hook in callables:
            if f"nameko_{hook}" not in OBSERVER_HOOKS:
                raise ValueError(f"there is no observer hook nameko_{hook}; there are {', '.join(OBSERVER_HOOKS)}")
        added = {hook: (name, fn) for hook, fn in callables.items()}
        for hook, observer in added.items():
            setattr(self, hook, (*getattr(self, hook), observer))
        try:
            yield
        finally:
            for hook, observer in added.items():
                setattr(self, hook, tuple(each for each in getattr(self, hook) if each is not observer))
            tell_what_is_left(callables.values())

    def tell_failures(self) -> None:
        """Log what has been counted of their failures and would be told later."""
        tell_what_is_left(fn for observers in vars(self).values() for _, fn in observers)


def notify(observers: tuple[Observer, ...], **arguments: Any) -> None:
    """Call each observer with `arguments`; one that raises anything is logged and does not hinder the others.

    :raises GreenletExit: when the greenthread is killed meanwhile
    :raises KeyboardInterrupt: when it is interrupted at the terminal
    :raises Timeout: when one strikes that was made before
    """
    for plugin, fn in observers:
        since_s = monotonic()
        try:
            fn(**arguments)
        except BaseException as exc:
            if is_not_its_own(exc, since_s):
                raise
            report_failure(plugin, fn, exc)
