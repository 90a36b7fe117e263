"""The spans of outgoing calls, whose context travels in the headers of the messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, get_current
from opentelemetry.trace import Span, SpanKind

from nameko.tracing._entrypoints import messaging_attributes, rpc_attributes
from nameko.tracing._outcomes import record_exception
from nameko.tracing._settings import is_enabled
from nameko.tracing._tracer import Provider, make_tracer

if TYPE_CHECKING:
    from nameko.extensions import ExcInfo
    from nameko.outgoing_calls import OutgoingCall
    from nameko.tracing._workers import WorkerSpans


class CallSpans:
    """The spans of the calls that are under way.

    :param workers: the spans of those who call
    """

    def __init__(self, workers: WorkerSpans) -> None:
        self._tracer = make_tracer()
        self._provider = Provider()
        self._workers = workers
        self._open: dict[OutgoingCall, Span] = {}

    def start(self, call: OutgoingCall) -> None:
        """A call is about to be made: begin its span, and put the context into its headers.

        Without a tracer provider there is no span: the caller's context travels on.
        """
        if not is_enabled(call.config):
            return
        context = self._context_of_caller(call)
        if self._provider.is_set():
            name, kind, attributes = _describe(call)
            span = self._open[call] = self._tracer.start_span(name, context, kind, attributes, record_exception=False)
            context = trace.set_span_in_context(span, context)
        if context:
            propagate.inject(call.headers, context)

    def _context_of_caller(self, call: OutgoingCall) -> Context:
        current = get_current()
        if current:
            return current
        # In a greenthread that the worker has started, where nothing is current.
        return self._workers.context_of(call.worker_ctx) or current

    def finish(self, call: OutgoingCall, exc_info: ExcInfo | None) -> None:
        """A call has its outcome: end its span."""
        span = self._open.pop(call, None)
        if span is None:
            return
        try:
            if exc_info is not None and span.is_recording():
                record_exception(span, exc_info[1], is_error=True)
        finally:
            span.end()


def _describe(call: OutgoingCall) -> tuple[str, SpanKind, dict[str, Any]]:
    if call.kind == "rpc":
        return (
            f"{call.destination}/{call.operation}",
            SpanKind.CLIENT,
            rpc_attributes(call.destination, call.operation),
        )
    attributes = messaging_attributes(call.destination, call.operation, "send")
    return f"send {attributes['messaging.destination.name']}", SpanKind.PRODUCER, attributes
