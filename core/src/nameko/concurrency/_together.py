"""One method of many objects, or one function of many items, called at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar

from nameko.concurrency._tasks import join_all, spawn_task, wait_all

T = TypeVar("T")


class SpawningProxy:
    """Calls a method on every item at once, each in a greenthread of its own, and waits for all of them.

    :param items: the objects to call
    :param abort_on_error: raise the first exception at once and kill the calls that still run
    """

    def __init__(self, items: Collection[Any], abort_on_error: bool = False) -> None:
        self._items = items
        self.abort_on_error = abort_on_error

    def __getattr__(self, name: str) -> Callable[..., list[Any]]:
        if name.startswith("__"):
            raise AttributeError(name)

        def call_all(*args: Any, **kwargs: Any) -> list[Any]:
            threads = [spawn_task(getattr(item, name), *args, **kwargs) for item in self._items]
            if self.abort_on_error:
                join_all(threads)
            else:
                wait_all(threads)
            return [thread.wait() for thread in threads]

        return call_all


class SpawningSet(set[Any]):
    """A set whose `all` calls a method on every member, see `SpawningProxy`."""

    @property
    def all(self) -> SpawningProxy:
        """The members, to be called together."""
        return SpawningProxy(self)


def fail_fast_imap(pool: Any, fn: Callable[[Any], T], items: Iterable[Any]) -> list[T]:
    """`fn` of each item, run in `pool`, in the order of the items.

    :raises: the first exception that any of the calls raises, as soon as it does; the calls that still run are killed.
    """
    threads = [pool.spawn(fn, item) for item in items]
    join_all(threads)
    return [thread.wait() for thread in threads]
