"""The context that travels: out of incoming headers and into outgoing ones, by OpenTelemetry's global propagators."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter, TextMapPropagator

from nameko.constants import HEADER_PREFIX

if TYPE_CHECKING:
    from nameko.containers import Headers, WorkerContext


class _HeadersGetter(Getter[Any]):
    """Reads headers of messages and requests, whose values may be of any type: only text counts."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def get(self, carrier: Any, key: str) -> list[str] | None:
        """The value of a header, as a list of one."""
        value = carrier.get(self._prefix + key)
        return [value] if isinstance(value, str) else None

    def keys(self, carrier: Any) -> list[str]:
        """The names."""
        start = len(self._prefix)
        names: Iterable[Any] = carrier.keys()
        return [name[start:] for name in names if isinstance(name, str) and name.startswith(self._prefix)]


_OWN = _HeadersGetter()
# A service without tracing, of nameko 2.14 too, takes all headers for context data, and sends that on with a prefix.
_FORWARDED = _HeadersGetter(f"{HEADER_PREFIX}.")

# A word, unlike the other names, that services may use for context data of their own: then it comes with the prefix.
_BAGGAGE = "baggage"


def incoming_context(worker_ctx: WorkerContext) -> Context:
    """The context that came with a call; empty when none did, or what came makes no sense.

    Of the caller itself or, where that knows nothing of traces, of whoever called it.
    """
    headers = worker_ctx.headers
    context = propagate.extract(headers, Context(), _OWN)
    if not trace.get_current_span(context).get_span_context().is_valid and _names_any(headers, _names().forwarded):
        context = propagate.extract(headers, context, _FORWARDED)
    return context


def brings_context(worker_ctx: WorkerContext) -> bool:
    """Whether a context may have come with a call: `incoming_context` without the work."""
    return _names_any(worker_ctx.headers, _names().all)


def _names_any(headers: Headers, names: frozenset[str]) -> bool:
    if isinstance(headers, (dict, MappingProxyType)):  # those of messages; or none
        return not names.isdisjoint(headers)
    get = headers.get  # those of HTTP requests, whose names may be in any case
    return any(get(name) is not None for name in names)


def forget_incoming(worker_ctx: WorkerContext) -> None:
    """Remove the incoming context from the context data, so that no call sends it on beside its own."""
    if not worker_ctx.data:
        return
    for name in _names().own:
        if name != _BAGGAGE or worker_ctx.headers.get(f"{HEADER_PREFIX}.{name}") is None:
            worker_ctx.data.pop(name, None)


class _Names(NamedTuple):
    """The headers that a propagator writes: as they are, with the prefix of those who send them on, and both."""

    own: frozenset[str]
    forwarded: frozenset[str]
    all: frozenset[str]


def _names() -> _Names:
    return _names_of(propagate.get_global_textmap())


@lru_cache(maxsize=8)
def _names_of(propagator: TextMapPropagator) -> _Names:
    own = frozenset(propagator.fields)
    forwarded = frozenset(f"{HEADER_PREFIX}.{field}" for field in own)
    return _Names(own, forwarded, own | forwarded)
