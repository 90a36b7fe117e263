"""Calling services from outside of a service: from a script, a web application, a test, a shell.

::

    with ClusterRpcProxy({"AMQP_URI": "pyamqp://guest:guest@localhost"}) as cluster:
        cluster.greeting.hello("Matt")
        pending = cluster.greeting.hello.call_async("Joe")
        pending.result()

A proxy has a connection and a reply queue of its own, and is for one thread (or greenthread) at a time. It needs no
monkey patching. Every call has a deadline on the wall clock, connecting included. When the connection is lost, the call
that waits raises `ConnectionLost`; the next one connects again.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from amqp.exceptions import NotFound

from nameko import serialization
from nameko.amqp import AmqpSettings, UndeliverableMessage
from nameko.amqp.blocking import BlockingClient, ConnectionLost, Deadline, Publication
from nameko.amqp.serializers import Codecs
from nameko.amqp.settings import given_config
from nameko.constants import CALL_ID_STACK_CONTEXT_KEY, HEADER_PREFIX
from nameko.exceptions import ReplyLost, RpcTimeout, UnknownService
from nameko.messaging import encode_to_headers
from nameko.outgoing_calls import OutgoingCall, observers_outside_services
from nameko.rpc._calls import RpcReply
from nameko.rpc._client import Caller, Client, Context
from nameko.rpc._observed import ObservedCaller
from nameko.rpc._options import RequestOptions, checked_target, default_options
from nameko.rpc._topology import get_rpc_exchange, reply_queue
from nameko.rpc._wire import error_in, reply_body, request_body
from nameko.standalone._rpc_compat import ClusterProxy, QueueConsumerView

__all__ = [
    "ClusterProxy",
    "ClusterRpcClient",
    "ClusterRpcProxy",
    "ConnectionLost",
    "ServiceRpcClient",
    "ServiceRpcProxy",
    "SingleThreadedReplyListener",
    "StandaloneProxyBase",
]

# How a proxy appears to the services that it calls: in its queue's name, and in their call ids.
_SERVICE_NAME = "standalone_rpc_proxy"
_METHOD_NAME = "call"


class StandaloneCall(RpcReply):
    """A call that was made through a standalone proxy."""

    def __init__(
        self, listener: SingleThreadedReplyListener, service_name: str, method_name: str, timeout_s: float
    ) -> None:
        self.correlation_id = str(uuid.uuid4())
        self.service_name = service_name
        self.deadline = Deadline(timeout_s)
        self.publication: Publication | None = None
        self.reply: Any = None
        self.error: BaseException | None = None
        self._listener = listener
        self._description = f"`{service_name}.{method_name}` within {timeout_s:g} s"

    @property
    def ended(self) -> bool:
        """Whether there is a reply, or can be none any more."""
        return self.reply is not None or self.failure is not None

    @property
    def sent(self) -> bool:
        """Whether the broker has the request, or the call has ended."""
        return self.ended or (self.publication is not None and self.publication.done)

    @property
    def failure(self) -> BaseException | None:
        """Why there can be no reply."""
        error = self.error or (self.publication and self.publication.error)
        if isinstance(error, (UndeliverableMessage, NotFound)):  # no queue for requests, or not even an exchange
            return UnknownService(self.service_name)
        return error or None

    def expire(self) -> RpcTimeout:
        """End it: its deadline has passed."""
        self.error = RpcTimeout(f"no reply from {self._description}")
        return self.error

    def _wait_for_reply(self) -> dict[str, Any]:
        if not self.ended:
            self._listener.wait(self, lambda: self.ended)
        failure = self.failure
        if failure is not None:
            raise failure
        return reply_body(self.reply)


class SingleThreadedReplyListener:
    """The connection of a standalone proxy: sends its requests and takes in the replies.

    Connects when it is first used, and again after a loss; the reply queue, and with it the calls that the broker has
    confirmed, live on. Replies are kept for the calls that somebody still holds; all others are dropped.

    :param config: configuration keys
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = AmqpSettings.from_config(config)
        self._client = BlockingClient(settings, "nameko standalone RPC proxy", Codecs.from_config(config, settings))
        self._exchange = get_rpc_exchange(config)
        self._pending: weakref.WeakValueDictionary[str, StandaloneCall] = weakref.WeakValueDictionary()
        self._stopped = False
        self._choose_queue()

    @property
    def queue_consumer(self) -> QueueConsumerView:
        """What nameko 2.14 has here, for pools that keep idle proxies connected."""
        return QueueConsumerView(self._client)

    def _choose_queue(self) -> None:
        self._process_id = os.getpid()
        self.routing_key = str(uuid.uuid4())
        self.queue = reply_queue(_SERVICE_NAME, self.routing_key, self._exchange)

    def open(self, deadline: Deadline) -> None:
        """Connect and consume the reply queue, unless that is the case.

        :raises RuntimeError: when the proxy was stopped
        :raises OSError: when the broker cannot be reached
        """
        if self._stopped:
            raise RuntimeError(
                "This RPC proxy was stopped and can no longer be used; start() it again, or make another."
            )
        if not self._client.open(deadline):
            return
        if self._process_id != os.getpid():  # of a child that has inherited the proxy: the queue is the parent's
            self._choose_queue()
        try:
            self._client.consume(self.queue, self._handle_reply, deadline, self._handle_queue_lost)
        except BaseException:
            self._client.drop()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another. The broker removes the reply queue some minutes later."""
        self._client.close()

    def stop(self) -> None:
        """Close the connection for good."""
        self._stopped = True
        self.close()

    def send(
        self,
        call: StandaloneCall,
        routing_key: str,
        payload: Any,
        options: Mapping[str, Any],
        expiration: Deadline,
    ) -> None:
        """Send the request of `call`.

        :param expiration: until when the request may wait in its queue, the time that connecting takes included
        :raises RpcTimeout: when its deadline passes before
        """
        try:
            self.open(call.deadline)
            self._pending[call.correlation_id] = call
            call.publication = self._client.send(
                payload,
                exchange=self._exchange.name,
                routing_key=routing_key,
                deadline=call.deadline,
                mandatory=True,
                correlation_id=call.correlation_id,
                reply_to=self.routing_key,
                expiration_s=expiration.remaining_s(),
                **options,
            )
        except TimeoutError as exc:
            raise call.expire() from exc

    def wait(self, call: StandaloneCall, done: Callable[[], bool]) -> None:
        """Serve the connection until `done()`, or the deadline of `call`, which ends it.

        :raises ConnectionLost: when the connection is lost first
        """
        try:
            if self._stopped or call.deadline.passed or not self._client.connected:
                self.open(call.deadline)  # which takes in what has arrived since the last use
            self._client.wait(done, call.deadline)
        except TimeoutError:
            call.expire()
        except ConnectionLost:
            if not call.ended:  # as it is when its reply queue was lost
                raise
        except NotFound as exc:
            call.error = exc

    def _handle_reply(self, message: Any) -> None:
        call = self._pending.pop(message.properties.get("correlation_id"), None)
        if call is not None:
            call.reply = message
        message.ack()

    def _handle_queue_lost(self, consumer_tag: str) -> None:
        for call in list(self._pending.values()):
            call.error = ReplyLost(f"the reply queue {self.queue.name} is lost")
        self._pending.clear()
        self._choose_queue()
        raise ConnectionLost(f"the reply queue was deleted (consumer {consumer_tag})")


class StandaloneCaller:
    """Makes the calls of a standalone proxy.

    :param listener: sends and receives
    :param options: how requests are sent
    """

    def __init__(self, listener: SingleThreadedReplyListener, options: RequestOptions) -> None:
        self._listener = listener
        self._options = options

    def with_options(self, options: Mapping[str, Any]) -> StandaloneCaller:
        """A caller with other options."""
        return StandaloneCaller(self._listener, self._options.changed(options))

    def call(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> Any:
        """Call and wait; the result."""
        return self._begin(context, service_name, method_name, args, kwargs).result()

    def call_async(
        self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any
    ) -> StandaloneCall:
        """Call, and return when the broker has the request."""
        call = self._begin(context, service_name, method_name, args, kwargs)
        self._listener.wait(call, lambda: call.sent)
        failure = call.failure
        if failure is not None:
            raise failure
        return call

    def _begin(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> StandaloneCall:
        options = self._options
        call = StandaloneCall(self._listener, service_name, method_name, options.timeout_s)
        expiration = Deadline(options.message_expiration_s)
        sending = {
            "headers": {**encode_to_headers(context.context_data, HEADER_PREFIX), **options.headers},
            **options.publishing,
        }
        self._listener.send(call, f"{service_name}.{method_name}", request_body(args, kwargs), sending, expiration)
        return call


class ObservedReply(RpcReply):
    """The reply to come of a call that is observed: what finishes it is that somebody asks for the result.

    Nobody else serves the connection. A reply that is never asked for finishes its call when it is forgotten.

    :param call: the call
    :param reply: its reply
    """

    def __init__(self, call: OutgoingCall, reply: RpcReply) -> None:
        self._call = call
        self._reply = reply
        weakref.finalize(self, call.finish)

    def _wait_for_reply(self) -> dict[str, Any]:
        try:
            body = self._reply.get_response()
        except BaseException as exc:
            self._call.finish_with(exc)
            raise
        self._call.finish_with(error_in(body))
        return body


class StandaloneContext:
    """Who calls: the same caller for all calls of a proxy.

    :param data: context data to send with each call
    """

    def __init__(self, data: Mapping[str, Any] | None) -> None:
        self.data = data if data is not None else {}
        self.call_id = f"{_SERVICE_NAME}.{_METHOD_NAME}.{uuid.uuid4()}"

    @property
    def context_data(self) -> dict[str, Any]:
        """The context data of a call."""
        parents = self.data.get(CALL_ID_STACK_CONTEXT_KEY) or ()
        return {**self.data, CALL_ID_STACK_CONTEXT_KEY: [*parents, self.call_id]}


class StandaloneProxyBase:
    """A proxy for code outside of services. Use it in a `with` statement, or call `start()` and `stop()`.

    :param config: configuration keys; the process-wide `nameko.config` when not given
    :param service_name: the service to call; None for all
    :param context_data: context data to send with each call
    :param options: `timeout` in seconds, by default the configuration's `RPC_TIMEOUT`; `serializer`, `headers`, ...
    :param reply_listener_cls: makes the connection, from the configuration
    :raises ConfigurationError: when the configuration cannot work
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None,
        service_name: str | None,
        context_data: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        reply_listener_cls: Callable[[Mapping[str, Any]], SingleThreadedReplyListener] = SingleThreadedReplyListener,
    ) -> None:
        self._config = given_config(type(self).__name__, config)
        self._service_name = service_name
        self._context = StandaloneContext(context_data)
        self._options = default_options(self._config, serialization.setup(self._config).serializer, options)
        self._reply_listener_cls = reply_listener_cls
        self._listener: SingleThreadedReplyListener | None = None

    def connect_later(self) -> Client:
        """The proxy, which connects when it is first used."""
        if self._listener is None:
            self._listener = self._reply_listener_cls(self._config)
        return ClusterProxy(self._caller(self._listener), self._context, self._service_name, self._listener)

    def _caller(self, listener: SingleThreadedReplyListener) -> Caller:
        caller = StandaloneCaller(listener, self._options)
        observers = observers_outside_services(self._config)
        return ObservedCaller(caller, observers, self._config, ObservedReply) if observers.observe_calls else caller

    def start(self) -> Client:
        """Connect; what to call services through.

        :raises OSError: when the broker cannot be reached
        """
        client = self.connect_later()
        assert self._listener is not None
        try:
            self._listener.open(Deadline(self._options.timeout_s))
        except BaseException:
            self.stop()
            raise
        return client

    def stop(self) -> None:
        """Disconnect. What `start()` gave raises `RuntimeError` from now on; `start()` may be called again."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def disconnect(self) -> None:
        """Disconnect for now: the next call connects again."""
        if self._listener is not None:
            self._listener.close()

    def __enter__(self) -> Client:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class ServiceRpcProxy(StandaloneProxyBase):
    """Calls one service: `with ServiceRpcProxy("greeting", config) as greeting: greeting.hello("Matt")`.

    :param service_name: the service
    :param config: configuration keys; the process-wide `nameko.config` when not given
    :param context_data: context data to send with each call
    :param timeout: seconds for each call; the configuration's `RPC_TIMEOUT` when not given
    :param reply_listener_cls: makes the connection, from the configuration
    :param options: `serializer`, `headers`, `expiration` in seconds, `priority`, and other properties of the messages
    """

    def __init__(
        self,
        service_name: str,
        config: Mapping[str, Any] | None = None,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        reply_listener_cls: Callable[[Mapping[str, Any]], SingleThreadedReplyListener] = SingleThreadedReplyListener,
        **options: Any,
    ) -> None:
        target = checked_target(type(self).__name__, service_name)
        super().__init__(config, target, context_data, {"timeout": timeout, **options}, reply_listener_cls)


class ClusterRpcProxy(StandaloneProxyBase):
    """Calls any service: `with ClusterRpcProxy(config) as cluster: cluster.greeting.hello("Matt")`.

    A name that is no identifier goes in brackets: `cluster["greeting-service"].hello("Matt")`. The parameters are those
    of `ServiceRpcProxy`, without the service.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        reply_listener_cls: Callable[[Mapping[str, Any]], SingleThreadedReplyListener] = SingleThreadedReplyListener,
        **options: Any,
    ) -> None:
        super().__init__(config, None, context_data, {"timeout": timeout, **options}, reply_listener_cls)


class ServiceRpcClient(ServiceRpcProxy):
    """`ServiceRpcProxy` as the 3.0 line spells it: `ServiceRpcClient("greeting", timeout=5)`."""

    def __init__(
        self,
        service_name: str,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(service_name, config, context_data, timeout, **options)


class ClusterRpcClient(ClusterRpcProxy):
    """`ClusterRpcProxy` as the 3.0 line spells it: `ClusterRpcClient(timeout=5)`."""

    def __init__(
        self,
        context_data: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        *,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(config, context_data, timeout, **options)
