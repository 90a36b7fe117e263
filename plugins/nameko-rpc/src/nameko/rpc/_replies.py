"""Where replies come in: one queue a container, and the calls that wait for them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from logging import getLogger
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko.amqp import Broker
from nameko.exceptions import ContainerBeingKilled, ReplyLost
from nameko.extensions import SharedExtension
from nameko.rpc._calls import PendingReply
from nameko.rpc._options import default_options
from nameko.rpc._topology import get_rpc_exchange, reply_queue

if TYPE_CHECKING:
    from kombu import Queue

    from nameko.amqp import Message
    from nameko.rpc._calls import RpcCall

_log = getLogger(__name__)

_RETRY_INTERVAL_S = 1.0


class PendingCalls:
    """The calls that have not ended, by their correlation ids. Those whose deadline passes are ended.

    One timer serves all of them: it is set to the earliest deadline, and looks at what is pending when it fires.
    """

    def __init__(self) -> None:
        self._calls: dict[str, RpcCall] = {}
        self._timer: Any = None
        self._timer_at = inf

    def add(self, call: RpcCall) -> None:
        """`call` has begun."""
        self._calls[call.correlation_id] = call
        if call.deadline < self._timer_at:
            self._set_timer(call.deadline)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = concurrency.schedule(max(at - monotonic(), 0), self._end_overdue)

    def _end_overdue(self) -> None:
        self._timer, self._timer_at = None, inf
        now = monotonic()
        for call in [each for each in self._calls.values() if each.deadline <= now]:
            call.expire()
        if self._calls:
            self._set_timer(min(call.deadline for call in self._calls.values()))

    def remove(self, call: RpcCall) -> None:
        """`call` has ended."""
        self._calls.pop(call.correlation_id, None)

    def get(self, correlation_id: Any) -> RpcCall | None:
        """The call with that id, if it has not ended."""
        return self._calls.get(correlation_id)

    def end_all(self, error: BaseException) -> None:
        """End every call with `error`."""
        for call in list(self._calls.values()):
            call.end(error=error)

    def close(self) -> None:
        """End every call: no reply comes in any more."""
        self.end_all(ReplyLost("the service that has called has stopped"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, inf

    def __len__(self) -> int:
        return len(self._calls)


class ReplyListener(SharedExtension):
    """Consumes a container's queue for replies, and gives each to the call that waits for it.

    It consumes in the connection's own greenthread, so replies come in while all workers are busy, waiting for them.
    The queue keeps its name when the connection is lost and made again. When the queue itself is lost, each pending
    call ends in `ReplyLost`, and a new queue with a new name takes over.
    """

    broker = Broker()

    #: What the routing key of replies is, and so the `reply_to` of requests.
    routing_key: str
    queue: Queue

    def __init__(self) -> None:
        self.pending = PendingCalls()
        self._subscription: Any = None
        self._subscribed = concurrency.Event()

    def setup(self) -> None:
        """Make the queue, and consume it, before anything of the container starts and may call."""
        self._exchange = get_rpc_exchange(self.container.config)
        self._subscribe()

    def _subscribe(self) -> None:
        self.routing_key = str(uuid.uuid4())
        self.queue = reply_queue(self.container.service_name, self.routing_key, self._exchange)
        self._subscription = self.broker.subscribe(
            self.queue, self._handle_reply, prefetch=0, inline=True, on_lost=self._handle_queue_lost
        )
        self._subscribed.send(True)

    @property
    def subscribed(self) -> bool:
        """Whether replies have somewhere to go."""
        return bool(self._subscribed.ready())

    def wait_until_subscribed(self, timeout_s: float) -> bool:
        """Wait, while a lost queue is being replaced, until replies have somewhere to go; whether they have."""
        return self._subscribed.ready() or bool(self._subscribed.wait(timeout=timeout_s))

    def get_reply_event(self, correlation_id: str, timeout_s: float | None = None) -> PendingReply:
        """Expect a reply to a request that the caller sends itself, with `reply_to=routing_key` and this id.

        :param correlation_id: that of the request
        :param timeout_s: seconds from now until the reply is given up; by default the configuration's `RPC_TIMEOUT`
        :returns: whose `wait()` gives the decoded body of the reply; an `RpcReply` can be made of it
        """
        if timeout_s is None:
            timeout_s = default_options(self.container.config, self.container.serializer, {}).timeout_s
        return PendingReply(correlation_id, self.pending, timeout_s)

    def register_for_reply(self, correlation_id: str) -> Callable[[], dict[str, Any]]:
        """`get_reply_event` as the 3.0 line has it: a function that waits for the reply, and gives its decoded body."""
        return self.get_reply_event(correlation_id).wait

    def stop(self) -> None:
        """End what is pending: whoever still waits is no worker. The broker removes the queue, some minutes later."""
        self.pending.close()

    def kill(self) -> None:
        """The same."""
        self.pending.close()

    def _handle_reply(self, message: Message) -> None:
        call = self.pending.get(message.properties.get("correlation_id"))
        if call is None:
            self.broker.counters["replies_late"] += 1
            _log.debug("dropped a reply that nobody waits for: %s", message.properties.get("correlation_id"))
        else:
            call.end(reply=message)
        message.ack()

    def _handle_queue_lost(self, exc: Exception) -> None:
        if not self._subscribed.ready():  # it is being replaced
            return
        _log.warning("the reply queue %s is lost: %s", self.queue.name, exc)
        self._subscribed = concurrency.Event()
        self.pending.end_all(ReplyLost(f"the reply queue {self.queue.name} is lost: {exc}"))
        self.container.spawn_managed_thread(self._replace_queue, identifier="replace the reply queue")

    def _replace_queue(self) -> None:
        self._subscription.close()
        while True:
            try:
                self._subscribe()
                return
            except ContainerBeingKilled:
                return
            except Exception as exc:  # calls wait meanwhile, each until its deadline
                _log.warning("the reply queue cannot be replaced (%s); trying again", exc)
                concurrency.sleep(_RETRY_INTERVAL_S)


ReplyListener.__module__ = "nameko.rpc"
