"""What nameko-tracing takes part in: workers and outgoing calls, from their beginning to their end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from nameko.plugins import ConfigKey, hookimpl
from nameko.tracing._settings import CONFIG_KEYS, is_enabled

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer, WorkerContext
    from nameko.extensions import ExcInfo
    from nameko.outgoing_calls import OutgoingCall
    from nameko.tracing._calls import CallSpans
    from nameko.tracing._workers import WorkerSpans


@cache
def _workers() -> WorkerSpans:
    # Made when a service starts, or calls: commands that run none do not import OpenTelemetry, which takes a while.
    from nameko.tracing._workers import WorkerSpans

    return WorkerSpans()


@cache
def _calls() -> CallSpans:
    from nameko.tracing._calls import CallSpans

    return CallSpans(_workers())


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """What is traced."""
    return CONFIG_KEYS


@hookimpl
def nameko_container_started(container: ServiceContainer) -> None:
    """Import OpenTelemetry, for which the first worker, and all else in the process, would have to wait otherwise."""
    if is_enabled(container.config):
        _calls()


@hookimpl(tryfirst=True)
def nameko_worker_started(worker_ctx: WorkerContext) -> None:
    """Begin the worker's span, and make it the current one: for other observers too."""
    _workers().start(worker_ctx)


# Those that are called for each message take all arguments of their hooks: they are then called without a detour.


@hookimpl(trylast=True)
def nameko_worker_finished(worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None, duration_s: float) -> None:
    """End it, with the outcome."""
    _workers().finish(worker_ctx, result, exc_info)


@hookimpl
def nameko_container_stopped(container: ServiceContainer) -> None:
    """End the spans of workers that were killed."""
    _abandon(container)


@hookimpl
def nameko_container_killed(container: ServiceContainer) -> None:
    """End the spans of workers that were killed."""
    _abandon(container)


def _abandon(container: ServiceContainer) -> None:
    if _workers.cache_info().currsize:  # else there are no spans, and importing OpenTelemetry would hold up the kill
        _workers().abandon(container)


@hookimpl
def nameko_call_started(call: OutgoingCall) -> None:
    """Begin the call's span, and send its context along."""
    _calls().start(call)


@hookimpl
def nameko_call_finished(call: OutgoingCall, exc_info: ExcInfo | None, duration_s: float) -> None:
    """End it, with the outcome."""
    _calls().finish(call, exc_info)
