"""A call under way, seen from the caller: it has one outcome, and has it by its deadline."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from amqp.exceptions import NotFound

from nameko.amqp import PublishTimeout, UndeliverableMessage
from nameko.concurrency import Signal
from nameko.exceptions import RpcTimeout, UnknownService
from nameko.rpc._wire import outcome, reply_body

if TYPE_CHECKING:
    from nameko.rpc._replies import PendingCalls


class ReplyEvent(Protocol):
    """What an `RpcReply` waits for."""

    def wait(self) -> dict[str, Any]:
        """The decoded body of the reply; raises when none can come any more."""


class RpcReply:
    """The reply to come of a call that was made with `call_async`.

    :param reply_event: its `wait()` gives the decoded body of the reply
    """

    _body: dict[str, Any] | None = None

    def __init__(self, reply_event: ReplyEvent) -> None:
        self._reply_event = reply_event

    def _wait_for_reply(self) -> dict[str, Any]:
        return self._reply_event.wait()

    def get_response(self) -> dict[str, Any]:
        """The decoded body of the reply, waited for the first time."""
        if self._body is None:
            self._body = self._wait_for_reply()
        return self._body

    def result(self) -> Any:
        """What the remote method returned. Waits for it the first time, and may be asked again.

        :raises: what the remote method raised: as itself, if its class is known here, else as `RemoteError`
        :raises UnknownService: when nobody listens for that service
        :raises RpcTimeout: when there is no reply by the deadline
        :raises ReplyLost: when the reply can no longer arrive
        """
        return outcome(self.get_response())


class RpcCall(RpcReply):
    """A call made by a worker.

    One of these ends it, whichever is first: its reply; a request that cannot be delivered; its deadline; the loss of
    the queue that its reply would come to; its caller's giving up. The methods that end it neither block nor raise.

    :param service_name: who is called
    :param method_name: what is called
    :param correlation_id: the id that request and reply share
    :param pending: where it stands until it has ended
    :param timeout_s: seconds from its begin to its deadline
    :param waited_s: seconds since its begin
    """

    #: The request on its way; `cancel()` stops it from being sent again.
    publication: Any = None

    _accepted: Signal | None = None

    def __init__(
        self,
        service_name: str,
        method_name: str,
        correlation_id: str,
        pending: PendingCalls,
        timeout_s: float,
        waited_s: float = 0.0,
    ) -> None:
        self.service_name = service_name
        self.method_name = method_name
        self.correlation_id = correlation_id
        #: By the clock of `time.monotonic`.
        self.deadline = monotonic() + timeout_s - waited_s
        self._timeout_s = timeout_s
        self._pending = pending
        self._sent = False
        self._ended = Signal()
        self._reply: Any = None
        self._error: BaseException | None = None
        pending.add(self)

    @property
    def ended(self) -> bool:
        """Whether it has its outcome."""
        return self._ended.is_set()

    def on_sent(self, error: BaseException | None) -> None:
        """The broker has the request (None), or will not get it."""
        if isinstance(error, (UndeliverableMessage, NotFound)):  # no queue for requests, or not even an exchange
            self.end(error=UnknownService(self.service_name))
        elif isinstance(error, PublishTimeout):
            self.expire()
        elif error is not None:
            self.end(error=error)
        else:
            self._tell_sent()

    def _tell_sent(self) -> None:
        self._sent = True
        if self._accepted is not None and not self._accepted.is_set():
            self._accepted.set()

    def expire(self) -> None:
        """Its deadline has passed."""
        target = f"{self.service_name}.{self.method_name}"
        self.end(error=RpcTimeout(f"no reply from `{target}` within {self._timeout_s:g} s"))

    def end(self, reply: Any = None, error: BaseException | None = None) -> None:
        """It has ended, with the message that is the reply, or with an error. Only the first time counts."""
        if self._ended.is_set():
            return
        self._pending.remove(self)
        if self.publication is not None and not self._sent:
            self.publication.cancel()
        self._reply, self._error = reply, error
        self._ended.set()
        self._tell_sent()

    def wait_until_sent(self) -> None:
        """Wait until the broker has the request, or the call has ended.

        :raises UnknownService: when nobody listens for that service; likewise whatever else ended it
        """
        if not self._sent:
            self._accepted = Signal()
            self._accepted.wait()
        if self._error is not None:
            raise self._error

    def _wait_for_reply(self) -> dict[str, Any]:
        self._ended.wait()
        if self._error is not None:
            raise self._error
        return reply_body(self._reply)


class PendingReply:
    """The reply to a request that somebody else has sent; `wait()`s like an eventlet event.

    :param correlation_id: that of the request
    :param pending: where it stands until it has ended
    :param timeout_s: seconds from now to its deadline
    """

    def __init__(self, correlation_id: str, pending: PendingCalls, timeout_s: float) -> None:
        self._call = RpcCall("request", correlation_id, correlation_id, pending, timeout_s)

    def wait(self) -> dict[str, Any]:
        """The decoded body of the reply.

        :raises RpcTimeout: when there is none by the deadline
        :raises ReplyLost: when it can no longer arrive
        """
        return self._call.get_response()

    def ready(self) -> bool:
        """Whether `wait()` returns at once."""
        return self._call.ended

    def cancel(self, error: BaseException) -> None:
        """Nobody waits any more; whoever does nevertheless gets `error`."""
        self._call.end(error=error)


RpcReply.__module__ = RpcCall.__module__ = "nameko.rpc"
