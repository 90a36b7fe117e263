"""The spans of workers: begun with the caller's span as the parent, current while the method runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Span, Status, StatusCode

from nameko.tracing._entrypoints import Description, describe
from nameko.tracing._http import request_attributes, response_status
from nameko.tracing._outcomes import describe_arguments, record_exception
from nameko.tracing._propagation import brings_context, forget_incoming, incoming_context
from nameko.tracing._tracer import Provider, make_tracer

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer, WorkerContext
    from nameko.extensions import Entrypoint, ExcInfo


@dataclass(frozen=True, slots=True)
class _Open:
    """A worker under way: its span, if it has one; its context; and what takes that back."""

    span: Span | None
    context: Context
    token: Any


class WorkerSpans:
    """The spans of the workers that are running."""

    def __init__(self) -> None:
        self._tracer = make_tracer()
        self._provider = Provider()
        self._open: dict[WorkerContext, _Open] = {}
        self._descriptions: WeakKeyDictionary[Entrypoint, Description] = WeakKeyDictionary()

    def start(self, worker_ctx: WorkerContext) -> None:
        """A worker has started: begin its span, and make it current in its greenthread.

        Without a tracer provider, and for an excluded entrypoint, there is no span: the caller's context is current.
        """
        description = self._description_of(worker_ctx.entrypoint)
        if not description.enabled:
            return
        makes_span = self._provider.is_set() and not description.excluded
        if not makes_span and not brings_context(worker_ctx):
            return
        context = incoming_context(worker_ctx)
        forget_incoming(worker_ctx)
        span = self._begin(worker_ctx, description, context) if makes_span else None
        if span is not None:
            context = trace.set_span_in_context(span, context)
        self._open[worker_ctx] = _Open(span, context, attach(context))

    def _description_of(self, entrypoint: Entrypoint) -> Description:
        description = self._descriptions.get(entrypoint)
        if description is None:
            description = self._descriptions[entrypoint] = describe(entrypoint)
        return description

    def _begin(self, worker_ctx: WorkerContext, description: Description, parent: Context) -> Span:
        name, attributes = description.name, description.attributes
        if description.is_http:
            of_request = request_attributes(worker_ctx.headers, worker_ctx.entrypoint)
            attributes = {**attributes, **of_request}
            name = f"{of_request.get('http.request.method', 'HTTP')} {name}"
        span = self._tracer.start_span(
            name, parent, description.kind, attributes, start_time=_started_at_ns(worker_ctx), record_exception=False
        )
        if span.is_recording():
            span.set_attribute("nameko.call_id", worker_ctx.call_id)
            if description.records_arguments:
                arguments = describe_arguments(worker_ctx.entrypoint, worker_ctx.args, worker_ctx.kwargs)
                span.set_attribute("nameko.arguments", arguments)
        return span

    def finish(self, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
        """A worker has finished: end its span with the outcome. Called in its greenthread."""
        worker = self._open.pop(worker_ctx, None)
        if worker is None:
            return
        detach(worker.token)
        if worker.span is None:
            return
        try:
            if worker.span.is_recording():
                self._record(worker.span, worker_ctx, result, None if exc_info is None else exc_info[1])
        finally:
            worker.span.end()

    def _record(self, span: Span, worker_ctx: WorkerContext, result: Any, exc: BaseException | None) -> None:
        entrypoint = worker_ctx.entrypoint
        is_http = self._description_of(entrypoint).is_http
        status = response_status(entrypoint, result, exc) if is_http else None
        if status is not None:
            span.set_attribute("http.response.status_code", status)
            is_error = status >= 500
        else:
            is_error = exc is not None and not isinstance(exc, entrypoint.expected_exceptions)
        if exc is not None:
            record_exception(span, exc, is_error=is_error)
        elif is_error:
            span.set_attribute("error.type", str(status))
            span.set_status(Status(StatusCode.ERROR))

    def abandon(self, container: ServiceContainer) -> None:
        """A container has ended: end the spans of the workers that were killed with it."""
        for worker_ctx in [each for each in self._open if each.container is container]:
            span = self._open.pop(worker_ctx).span
            if span is not None:
                span.set_status(Status(StatusCode.ERROR, "the worker was killed"))
                span.end()

    def context_of(self, worker_ctx: WorkerContext | None) -> Context | None:
        """The context of a worker that is running; None when it has none."""
        worker = None if worker_ctx is None else self._open.get(worker_ctx)
        return None if worker is None else worker.context


def _started_at_ns(worker_ctx: WorkerContext) -> int | None:
    """When the worker began, before its dependencies were set up: nanoseconds since 1970."""
    if worker_ctx.started_at is None:
        return None
    return time.time_ns() - int((time.perf_counter() - worker_ctx.started_at) * 1e9)
