"""The entrypoint: a service method that other services call."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from nameko.constants import HEADER_PREFIX
from nameko.extensions import Entrypoint
from nameko.messaging import decode_from_headers
from nameko.rpc._server import RpcConsumer
from nameko.rpc._wire import read_request

if TYPE_CHECKING:
    from nameko.amqp import Message
    from nameko.containers import WorkerContext
    from nameko.extensions import ExcInfo


class Rpc(Entrypoint):
    """Runs a method for each request that comes in for it, and sends its result back.

    A request is acknowledged when its reply is safe with the broker. When the process dies before that, the broker
    gives the request to another instance, so a method can run more than once.

    Override `handle_result` to look at or replace what is sent, and call it on `super()`.
    """

    rpc_consumer = RpcConsumer()

    def setup(self) -> None:
        """Ask for the method's requests."""
        self.rpc_consumer.register_provider(self)

    def stop(self) -> None:
        """Take no more requests."""
        self.rpc_consumer.unregister_provider(self)

    def handle_message(self, body: Any, message: Message) -> None:
        """Run a worker for a request. Blocks while all workers are busy.

        :param body: the decoded body
        :param message: the request itself
        :raises: whatever the caller is to be told instead of a result, such as `IncorrectSignature`
        """
        args, kwargs = read_request(body)
        self.check_signature(args, kwargs)
        self.container.spawn_worker(
            self,
            args,
            kwargs,
            context_data=decode_from_headers(message.headers, HEADER_PREFIX),
            handle_result=partial(self.handle_result, message),
        )

    def handle_result(
        self, message: Message, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None
    ) -> tuple[Any, ExcInfo | None]:
        """Reply to a request with the outcome of its worker, and acknowledge the request.

        :returns: result and exc_info, as the service's dependencies are to see them
        """
        return self.rpc_consumer.handle_result(message, result, exc_info)


Rpc.__module__ = "nameko.rpc"

rpc = Rpc.decorator
