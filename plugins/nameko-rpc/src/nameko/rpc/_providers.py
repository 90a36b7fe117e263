"""The dependencies: clients for other services."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from nameko.constants import HEADER_PREFIX
from nameko.containers import new_call_id
from nameko.exceptions import RpcTimeout
from nameko.extensions import DependencyProvider
from nameko.messaging import encode_to_headers
from nameko.rpc._calls import RpcCall
from nameko.rpc._client import Client, Context
from nameko.rpc._observed import observed
from nameko.rpc._options import RequestOptions, checked_target, default_options, refuse_unknown
from nameko.rpc._replies import ReplyListener
from nameko.rpc._topology import get_rpc_exchange
from nameko.rpc._wire import request_body

if TYPE_CHECKING:
    from nameko.containers import WorkerContext


class WorkerCaller:
    """Makes the calls of a container's workers.

    :param reply_listener: where the replies come in
    :param exchange: where requests go
    :param options: how they are sent
    """

    def __init__(self, reply_listener: ReplyListener, exchange: str, options: RequestOptions) -> None:
        self._replies = reply_listener
        self._broker = reply_listener.broker
        self._exchange = exchange
        self._options = options

    def with_options(self, options: Mapping[str, Any]) -> WorkerCaller:
        """A caller with other options."""
        return WorkerCaller(self._replies, self._exchange, self._options.changed(options))

    def call(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> Any:
        """Call and wait; the result."""
        call = self._begin(context, service_name, method_name, args, kwargs)
        try:
            return call.result()
        except BaseException as exc:
            call.end(error=exc)  # when the caller was killed or timed out: nobody else can ask for the reply
            raise

    def call_async(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> RpcCall:
        """Call, and return when the broker has the request."""
        call = self._begin(context, service_name, method_name, args, kwargs)
        try:
            call.wait_until_sent()
        except BaseException as exc:
            call.end(error=exc)
            raise
        return call

    def _begin(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> RpcCall:
        self._broker.check_thread()
        options = self._options
        timeout_s, expiration_s, waited_s = options.timeout_s, options.message_expiration_s, 0.0
        if not self._replies.subscribed:
            waited_s = self._wait_for_reply_queue(f"{service_name}.{method_name}", timeout_s)
            expiration_s = None if expiration_s is None else expiration_s - waited_s
        call = RpcCall(service_name, method_name, new_call_id(), self._replies.pending, timeout_s, waited_s)
        try:
            call.publication = self._broker.publish_nowait(
                request_body(args, kwargs),
                exchange=self._exchange,
                routing_key=f"{service_name}.{method_name}",
                mandatory=True,
                reply_to=self._replies.routing_key,
                correlation_id=call.correlation_id,
                headers={**encode_to_headers(context.context_data, HEADER_PREFIX), **options.headers},
                expiration_s=expiration_s,
                timeout_s=timeout_s - waited_s,
                on_done=call.on_sent,
                **options.publishing,
            )
        except BaseException as exc:
            call.end(error=exc)
            raise
        return call

    def _wait_for_reply_queue(self, target: str, timeout_s: float) -> float:
        """Wait while a lost queue is being replaced; for how many seconds that was."""
        started_at = monotonic()
        if not self._replies.wait_until_subscribed(timeout_s):
            raise RpcTimeout(f"`{target}` was not called: no reply queue within {timeout_s:g} s")
        return monotonic() - started_at


def worker_caller(reply_listener: ReplyListener, options: Mapping[str, Any], *, open_ended: bool) -> WorkerCaller:
    """Makes calls with the user's `options`, and for the rest as the container's configuration says.

    :param open_ended: see `RequestOptions`
    :raises ConfigurationError: when a timeout is not a positive number of seconds, or there is no such option
    """
    container = reply_listener.container
    merged = default_options(container.config, container.serializer, options, open_ended=open_ended)
    return WorkerCaller(reply_listener, get_rpc_exchange(container.config).name, merged)


class _RpcProvider(DependencyProvider):
    """What the two kinds of client have in common."""

    rpc_reply_listener = ReplyListener()
    options: dict[str, Any]
    _caller: WorkerCaller = None  # type: ignore[assignment]

    def setup(self) -> None:
        """Check and merge the options.

        :raises ConfigurationError: when a timeout is not a positive number of seconds
        """
        self._caller = worker_caller(self.rpc_reply_listener, self.options, open_ended=self._is_derived)

    @property
    def _is_derived(self) -> bool:
        # A subclass may have options for clients of its own, as in nameko 2.14.
        return type(self) not in (ServiceRpc, ClusterRpc)

    def _keep(self, options: dict[str, Any]) -> None:
        if not self._is_derived:
            refuse_unknown(options)
        self.options = options

    def _client(self, worker_ctx: WorkerContext, service_name: str | None) -> Client:
        if self._caller is None:  # a subclass has a setup() of its own
            _RpcProvider.setup(self)
        return Client(observed(self._caller, self.container), worker_ctx, service_name)


class ServiceRpc(_RpcProvider):
    """Injects a client for one service: `self.other.method(1)`, `self.other.method.call_async(1).result()`.

    :param target_service: the name of the service
    :param options: `timeout` in seconds, by default the configuration's `RPC_TIMEOUT`; `serializer`, `headers`,
        `expiration` in seconds, `priority`, `delivery_mode`, `compression`, and other properties of the messages
    :raises ConfigurationError: when the name is no string, or there is no such option
    """

    def __init__(self, target_service: str, **options: Any) -> None:
        # A subclass may find out later.
        self.target_service = target_service if self._is_derived else checked_target("ServiceRpc", target_service)
        self._keep(options)

    def describe(self) -> Mapping[str, str]:
        """Which service it calls."""
        return {"calls": self.target_service}

    def get_dependency(self, worker_ctx: WorkerContext) -> Client:
        """The client, which calls in the name of this worker."""
        return self._client(worker_ctx, self.target_service)


class ClusterRpc(_RpcProvider):
    """Injects a client for all services: `self.cluster.service.method(1)`, `self.cluster["service-name"].method(1)`.

    :param options: as for `ServiceRpc`
    :raises ConfigurationError: when there is no such option
    """

    def __init__(self, **options: Any) -> None:
        self._keep(options)

    def get_dependency(self, worker_ctx: WorkerContext) -> Client:
        """The client, which calls in the name of this worker."""
        return self._client(worker_ctx, None)


#: The name in nameko 2.14.
RpcProxy = ServiceRpc

ServiceRpc.__module__ = ClusterRpc.__module__ = "nameko.rpc"
