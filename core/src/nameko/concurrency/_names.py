"""Names of hosts, looked up by the system in native threads while greenthreads go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import wraps
from typing import Any, TypeVar

from nameko.concurrency._doorbell import Doorbell
from nameko.concurrency._library import Event, Semaphore, current, get_hub, has_hub, original, socket

T = TypeVar("T")

# So many names are resolved at once for the greenthreads of one hub.
_MAX_LOOKUPS = 20


def _in_native_thread(lookup: Callable[..., T]) -> Callable[..., T]:
    # Each in a thread of its own: lookups are rare, and a pool would neither survive a fork nor ever go away.
    @wraps(lookup)
    def call(*args: Any, **kwargs: Any) -> T:
        if not has_hub() or current() is get_hub().greenlet:  # nobody to give way to, or no way to
            return lookup(*args, **kwargs)
        outcome, slots = Event(), _lookup_slots()
        with ExitStack() as given_back:
            slots.acquire()
            given_back.callback(slots.release)
            bell = Doorbell()
            given_back.callback(bell.close)

            def deliver(result: tuple[T | None, BaseException | None]) -> None:
                with held:
                    outcome.send(result)

            original("_thread").start_new_thread(lambda: bell.call(deliver, _outcome_of(lookup, args, kwargs)), ())
            held = given_back.pop_all()  # until there is an outcome, whoever waits for it
        result, error = outcome.wait()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]

    return call


def _outcome_of(
    fn: Callable[..., T], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[T | None, BaseException | None]:
    try:
        return fn(*args, **kwargs), None
    except BaseException as exc:
        return None, exc


def _lookup_slots() -> Any:
    hub = get_hub()
    try:
        return hub.nameko_lookup_slots
    except AttributeError:
        hub.nameko_lookup_slots = Semaphore(_MAX_LOOKUPS)
        return hub.nameko_lookup_slots


def _numeric_first(getaddrinfo: Callable[..., T], resolve: Callable[..., T]) -> Callable[..., T]:
    # An address needs no lookup, and so no thread.
    @wraps(getaddrinfo)
    def call(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> T:
        try:
            return getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            return resolve(host, port, family, type, proto, flags)

    return call


def resolve_names_in_native_threads() -> None:
    """Have the green sockets look names up so, from now on."""
    for name in ("gethostbyname", "gethostbyname_ex", "getnameinfo", "getaddrinfo"):
        setattr(socket, name, _in_native_thread(getattr(original("socket"), name)))
    socket.getaddrinfo = _numeric_first(original("socket").getaddrinfo, socket.getaddrinfo)
