"""Clients under the names, and with the constructors, that they have in nameko 2.14, for extensions that make them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nameko.amqp.publish import Publisher, UndeliverableMessage
from nameko.amqp.settings import IN_PROCESS_URI
from nameko.constants import AMQP_SSL_CONFIG_KEY, AMQP_URI_CONFIG_KEY, HEADER_PREFIX, LOGIN_METHOD_CONFIG_KEY
from nameko.exceptions import UnknownService
from nameko.messaging import encode_to_headers
from nameko.rpc._calls import RpcReply
from nameko.rpc._client import Client, Context
from nameko.rpc._observed import observed
from nameko.rpc._options import RequestOptions, default_options
from nameko.rpc._providers import worker_caller
from nameko.rpc._replies import ReplyListener
from nameko.rpc._topology import get_rpc_exchange
from nameko.rpc._wire import request_body

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer


class ServiceProxy(Client):
    """A client for one service.

    :param worker_ctx: the worker that calls
    :param service_name: the service
    :param reply_listener: where the replies come in
    :param options: as for `ServiceRpc`
    """

    def __init__(self, worker_ctx: Context, service_name: str, reply_listener: ReplyListener, **options: Any) -> None:
        caller = observed(worker_caller(reply_listener, options, open_ended=True), reply_listener.container)
        super().__init__(caller, worker_ctx, service_name)
        # A subclass makes its method proxies of these, in a `__getattr__` of its own.
        self.worker_ctx = worker_ctx
        self.reply_listener = reply_listener
        self.options = options


class MethodProxy(Client):
    """A client for one method.

    :param worker_ctx: the worker that calls
    :param service_name: the service
    :param method_name: its method
    :param reply_listener: where the replies come in
    :param options: as for `ServiceRpc`
    """

    #: A subclass that sets another one, or overrides `amqp_uri`, sends its requests through an instance of it.
    publisher_cls: type[Publisher] = Publisher

    def __init__(
        self, worker_ctx: Context, service_name: str, method_name: str, reply_listener: ReplyListener, **options: Any
    ) -> None:
        self.reply_listener = reply_listener
        self._options = options
        caller = observed(self._make_caller(), self.container)
        super().__init__(caller, worker_ctx, service_name, method_name)

    def _make_caller(self) -> Any:
        cls = type(self)
        if cls.publisher_cls is Publisher and cls.amqp_uri is MethodProxy.amqp_uri:
            return worker_caller(self.reply_listener, {"serializer": self.serializer, **self._options}, open_ended=True)
        options = default_options(self.container.config, self.serializer, self._options, open_ended=True)
        return PublisherCaller(self, options)

    @property
    def container(self) -> ServiceContainer:
        """The container whose worker calls."""
        return self.reply_listener.container

    @property
    def amqp_uri(self) -> str:
        """The broker's URI."""
        return self.container.config.get(AMQP_URI_CONFIG_KEY) or IN_PROCESS_URI

    @property
    def ssl(self) -> Any:
        """The TLS options, as configured."""
        return self.container.config.get(AMQP_SSL_CONFIG_KEY)

    @property
    def login_method(self) -> str | None:
        """The SASL mechanism, as configured."""
        return self.container.config.get(LOGIN_METHOD_CONFIG_KEY)

    @property
    def serializer(self) -> str:
        """The name of the serializer, where the options say nothing."""
        return self.container.serializer


class PublisherCaller:
    """Makes calls through the publisher that a subclass of `MethodProxy` brings along.

    :param proxy: the proxy
    :param options: how requests are sent
    """

    def __init__(self, proxy: MethodProxy, options: RequestOptions) -> None:
        self._proxy = proxy
        self._options = options
        self._exchange = get_rpc_exchange(proxy.container.config)

    def with_options(self, options: Mapping[str, Any]) -> PublisherCaller:
        """A caller with other options."""
        return PublisherCaller(self._proxy, self._options.changed(options))

    def call(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> Any:
        """Call and wait; the result."""
        return self.call_async(context, service_name, method_name, args, kwargs).result()

    def call_async(self, context: Context, service_name: str, method_name: str, args: Any, kwargs: Any) -> RpcReply:
        """Call, and return when the publisher has sent the request."""
        proxy, options = self._proxy, self._options
        correlation_id = str(uuid.uuid4())
        reply_event = proxy.reply_listener.get_reply_event(correlation_id, options.timeout_s)
        publisher = proxy.publisher_cls(
            proxy.amqp_uri, ssl=proxy.ssl, login_method=proxy.login_method, **options.publishing
        )
        try:
            publisher.publish(
                request_body(args, kwargs),
                exchange=self._exchange,
                routing_key=f"{service_name}.{method_name}",
                mandatory=True,
                reply_to=proxy.reply_listener.routing_key,
                correlation_id=correlation_id,
                expiration=options.message_expiration_s,
                headers=dict(options.headers),
                extra_headers=encode_to_headers(context.context_data, HEADER_PREFIX),
            )
        except BaseException as exc:
            reply_event.cancel(exc)
            if isinstance(exc, UndeliverableMessage):
                raise UnknownService(service_name) from exc
            raise
        return RpcReply(reply_event)


ServiceProxy.__module__ = MethodProxy.__module__ = "nameko.rpc"
