"""The entrypoint: a service method that other services call."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from nameko.amqp.retrier import Outcome
from nameko.amqp.retry import check_declaration
from nameko.constants import HEADER_PREFIX
from nameko.extensions import Entrypoint
from nameko.messaging import decode_from_headers
from nameko.rpc._server import RpcConsumer
from nameko.rpc._topology import get_rpc_exchange, request_queue
from nameko.rpc._wire import read_request

if TYPE_CHECKING:
    from nameko.amqp import Message, Retry
    from nameko.amqp.retrier import Retrier
    from nameko.containers import WorkerContext
    from nameko.extensions import ExcInfo


# They are whole milliseconds, and spare most requests, which do not wait for a worker, a closer look.
_SHORTEST_EXPIRATION_S = 0.001


class Rpc(Entrypoint):
    """Runs a method for each request that comes in for it, and sends its result back.

    A request is acknowledged when its reply is safe with the broker. When the process dies before that, the broker
    gives the request to another instance, so a method can run more than once. One that has waited for a worker for
    longer than its caller waits for the reply is dropped; one that still waits when the service stops is given back.

    Override `handle_result` to look at or replace what is sent, and call it on `super()`.

    :param retry: a `nameko.amqp.Retry`: the method runs again for a request after it raised, as long as the caller
        waits. The caller gets what the last attempt comes to; a request whose last attempt failed is parked as well
    :param kwargs: `expected_exceptions`, `sensitive_arguments`
    :raises ConfigurationError: when `retry` is something else
    """

    rpc_consumer = RpcConsumer()

    retry: Retry | None = None
    _retrier: Retrier | None = None

    def __init__(self, *args: Any, retry: Retry | None = None, **kwargs: Any) -> None:
        check_declaration(retry, False, type(self).__name__)
        self.retry = retry
        super().__init__(*args, **kwargs)

    def setup(self) -> None:
        """Ask for the method's requests."""
        self.rpc_consumer.register_provider(self)
        if self.retry is not None:
            self._retrier = self.rpc_consumer.make_retrier(self, self.retry)

    def describe(self) -> Mapping[str, str]:
        """Where its requests come from."""
        service_name = self.container.service_name
        exchange = get_rpc_exchange(self.container.config)
        return {
            "queue": request_queue(service_name, exchange).name,
            "exchange": exchange.name,
            "routing_key": f"{service_name}.{self.method_name}",
        }

    def stop(self) -> None:
        """Take no more requests."""
        self.rpc_consumer.unregister_provider(self)

    def handle_message(self, body: Any, message: Message) -> None:
        """Run a worker for a request. Blocks while all workers are busy.

        :param body: the decoded body
        :param message: the request itself
        :raises: whatever the caller is to be told instead of a result, such as `IncorrectSignature`
        """
        if self._retrier is None:
            # Extensions that publish a request again take over its properties, and say themselves for how long.
            message.expiration = message.properties.pop("expiration", None)
        else:
            self._retrier.note_deadline(message)
            if self._retrier.drop_if_overdue(message):
                return
        args, kwargs = read_request(body)
        self.check_signature(args, kwargs)
        self.container.spawn_worker(
            self,
            args,
            kwargs,
            context_data=decode_from_headers(message.headers, HEADER_PREFIX),
            handle_result=partial(self.handle_result, message),
            fired_at=message.received_at,
            headers=message.headers,
            message=message,
            still_wanted=self._settle_unless_wanted,
        )

    def _settle_unless_wanted(self, worker_ctx: WorkerContext) -> bool:
        """Give back or drop a request that has waited too long for a worker; whether it is still wanted."""
        message = worker_ctx.message
        if self.rpc_consumer.stopped:  # while the request waited for a worker
            self.rpc_consumer.requeue_message(message)
            return False
        waited_s = worker_ctx.started_at - message.received_at
        if waited_s < _SHORTEST_EXPIRATION_S or not message.has_expired(waited_s):
            return True
        self.rpc_consumer.drop_overdue(message, waited_s)
        return False

    def handle_result(
        self, message: Message, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None
    ) -> tuple[Any, ExcInfo | None]:
        """Reply to a request with the outcome of its worker, and acknowledge the request; or have it tried again.

        :returns: result and exc_info, as the service's dependencies are to see them
        """
        if exc_info is not None and self._retry_or_park(message, exc_info[1]) is Outcome.AGAIN:
            return result, exc_info
        return self.rpc_consumer.handle_result(message, result, exc_info)

    def _retry_or_park(self, message: Message, exc: BaseException) -> Outcome | None:
        if self._retrier is None:
            return None
        try:
            return self._retrier.retry_or_park(message, exc)
        except Exception as error:  # then the caller learns now what the method raised
            self._retrier.log_failure(error)
            return None


Rpc.__module__ = "nameko.rpc"

rpc = Rpc.decorator
