"""Calls that are observed: what stands before a caller when a plugin wants to know of calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko.containers import WorkerContext
from nameko.outgoing_calls import OutgoingCall
from nameko.rpc._calls import RpcReply
from nameko.rpc._wire import error_in

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer
    from nameko.observers import Observers
    from nameko.rpc._client import Caller, Context

#: Sees to it that the call is finished when its reply is there; gives the reply for whoever has called.
Watch = Callable[[OutgoingCall, RpcReply], RpcReply]


class ObservedCaller:
    """Makes the calls of another caller, and lets observers know.

    :param caller: makes the calls
    :param observers: who observes
    :param config: the configuration of whoever calls
    :param watch: what becomes of a call that was made with `call_async`
    """

    def __init__(self, caller: Caller, observers: Observers, config: Mapping[str, Any], watch: Watch) -> None:
        self._caller = caller
        self._observers = observers
        self._config = config
        self._watch = watch

    def with_options(self, options: Mapping[str, Any]) -> ObservedCaller:
        """A caller with other options."""
        return ObservedCaller(self._caller.with_options(options), self._observers, self._config, self._watch)

    def call(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> Any:
        """Call and wait; the result."""
        with self._announced(context, service_name, method_name) as call:
            return self._with_headers(call).call(context, service_name, method_name, args, kwargs)

    def call_async(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> RpcReply:
        """Call, and return when the broker has the request."""
        call = self._announced(context, service_name, method_name)
        call.start()
        try:
            reply = self._with_headers(call).call_async(context, service_name, method_name, args, kwargs)
        except BaseException as exc:
            call.finish_with(exc)
            raise
        return self._watch(call, reply)

    def _announced(self, context: Context, service_name: str, method_name: str) -> OutgoingCall:
        worker_ctx = context if isinstance(context, WorkerContext) else None
        return OutgoingCall(self._observers, "rpc", service_name, method_name, worker_ctx, self._config)

    def _with_headers(self, call: OutgoingCall) -> Caller:
        return self._caller.with_options({"headers": call.added_headers()}) if call.headers else self._caller


def observed(caller: Caller, container: ServiceContainer) -> Caller:
    """The `caller` of a container's workers; one that lets observers know when there are any."""
    observers = container.observers
    if not observers.observe_calls:
        return caller
    return ObservedCaller(caller, observers, container.config, _finish_in_greenthread)


def _finish_in_greenthread(call: OutgoingCall, reply: RpcReply) -> RpcReply:
    # Not in the connection's: an observer may block. It ends with the call, which has a deadline.
    concurrency.spawn_detached(_finish_when_answered, call, reply)
    return reply


def _finish_when_answered(call: OutgoingCall, reply: RpcReply) -> None:
    error: BaseException | None
    try:
        error = error_in(reply.get_response())
    except BaseException as exc:  # whatever it is, it is the outcome, and nothing for the hub to print
        error = exc
    call.finish_with(error)
