"""Confirmed publishing: any number of messages under way on one channel, each with one outcome.

A `Publication` is one message on its way. The `ConfirmingPublisher` of a connection sends it, and settles it when the
broker confirms it, returns it or refuses it, or when its deadline passes. When the connection is lost before that, it
is sent again over the next one: a message that is confirmed has arrived at least once.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable
from itertools import takewhile
from time import monotonic
from typing import Any

from amqp.exceptions import AMQPError, ChannelError, FrameSyntaxError
from nameko import concurrency
from nameko.amqp._declared import DeclaredEntities, Entity
from nameko.amqp.connections import ManagedConnection
from nameko.amqp.declaring import check_open, close_channel, declare
from nameko.amqp.errors import PublishTimeout, UndeliverableMessage, nacked
from nameko.amqp.failures import describe
from nameko.amqp.publication import Publication
from nameko.exceptions import ConfigurationError

_log = logging.getLogger(__name__)

# Deadlines are looked at together, no more often than this.
_SWEEP_INTERVAL_MIN_S = 0.02
# After the broker refused to set the channel up: seconds until the next attempt.
_RETRY_S = 1.0


class ConfirmingPublisher:
    """Publishes over one connection, for everybody who shares it.

    :param connection: which one
    """

    def __init__(self, connection: ManagedConnection) -> None:
        self._connection = connection
        self._channel: Any = None  # open, and in confirm mode
        self._next_tag = 1
        self._in_flight: dict[int, Publication] = {}  # by delivery tag, in the order of sending
        self._waiting: deque[Publication] = deque()  # for the channel, or for the broker to take messages
        self._suspects: deque[Publication] = deque()  # one of them made the broker close the channel
        self._alone: Publication | None = None  # the suspect that is under way
        self._given_up_tag = 0  # of the latest message that was given up, until the broker says something of it
        self.declared = DeclaredEntities()
        self._setting_up: Any = None
        self._sweep_timer: Any = None
        self._sweep_at = float("inf")
        connection.add(self)

    # -- for publishers

    def submit(self, publication: Publication) -> None:
        """Send it as soon as possible; never blocks."""
        if publication.deadline < self._sweep_at:
            self._schedule_sweep(publication.deadline)
        if self._may_send and not self._waiting:
            self._send(publication)
        else:
            self._waiting.append(publication)

    def declare(self, entities: Iterable[Entity], passing: bool = False) -> None:
        """Declare exchanges and queues now, and again on each new connection.

        :param passing: they come with messages, and are forgotten after many others of that kind
        :raises ConfigurationError: when one exists with other properties
        :raises amqp.exceptions.AMQPError, OSError: when the broker refuses otherwise, or is gone
        """
        raw = self._connection.raw
        if raw is None:
            raise ConnectionError(f"not connected: {self._connection.why_down}")
        for entity in entities:
            declare(raw, entity)
            self.declared.add(entity, passing)

    def close(self) -> None:
        """Stop; whatever has no outcome yet is told that the connection is closed."""
        self._connection.remove(self)
        if self._setting_up is not None:
            self._setting_up.kill()
        channel = self._channel
        self._forget_channel()
        if channel is not None:
            close_channel(channel)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        pending = [*self._suspects, *self._waiting]
        self._suspects.clear()
        self._waiting.clear()
        for publication in pending:
            publication.settle(ConnectionError("the connection was closed before the message was confirmed"))

    def flush(self, timeout_s: float) -> bool:
        """Wait, at most `timeout_s`, until everything under way has its outcome; whether it has."""
        deadline = monotonic() + timeout_s
        while self._in_flight or self._waiting or self._suspects:
            if monotonic() >= deadline or not self._connection.connected:
                return False
            concurrency.sleep(0.005)
        return True

    # -- sending

    @property
    def _may_send(self) -> bool:
        return (
            self._channel is not None and self._alone is None and not self._suspects and self._connection.takes_messages
        )

    def _send(self, publication: Publication) -> None:
        channel = self._channel
        tag = self._next_tag
        self._next_tag = tag + 1
        self._in_flight[tag] = publication  # first: an in-process broker may confirm before this returns
        publication.sent = True
        try:
            channel.basic_publish(
                publication.message, publication.exchange, publication.routing_key, mandatory=publication.mandatory
            )
        except ChannelError as exc:
            self._channel_closed(exc)
        except (FrameSyntaxError, TypeError, ValueError) as exc:  # not encoded: the broker does not count it
            del self._in_flight[tag]
            self._next_tag = tag
            if self._alone is publication:
                self._alone = None
            _settle_aside(publication, exc)
        except (AMQPError, OSError):  # the reader finds out as well, and all of it is sent again
            pass

    def _pump(self) -> None:
        if self._suspects:
            self._pump_suspects()
        while self._waiting and self._may_send:
            publication = self._waiting.popleft()
            if not publication.done:
                publication.shorten_expiration()
                self._send(publication)

    def _pump_suspects(self) -> None:
        # One at a time: when the channel is closed again, it is clear by whom.
        while self._suspects and self._alone is None:
            if self._channel is None or not self._connection.takes_messages:
                return
            publication = self._suspects.popleft()
            if not publication.done:
                self._alone = publication
                publication.shorten_expiration()
                self._send(publication)

    # -- what the broker says

    def _on_ack(self, delivery_tag: int, multiple: bool) -> None:
        for publication in self._take(delivery_tag, multiple):
            publication.settle(publication.returned)

    def _on_nack(self, delivery_tag: int, multiple: bool) -> None:
        for publication in self._take(delivery_tag, multiple):
            publication.settle(nacked(publication.exchange, publication.routing_key))

    def _take(self, delivery_tag: int, multiple: bool) -> list[Publication]:
        if multiple:
            tags = list(takewhile(lambda tag: tag <= delivery_tag, self._in_flight))
        else:
            tags = [delivery_tag] if delivery_tag in self._in_flight else []
        taken = [self._in_flight.pop(tag) for tag in tags]
        if delivery_tag == self._given_up_tag or (multiple and delivery_tag > self._given_up_tag):
            self._given_up_tag = 0
        if self._alone is not None and self._alone in taken:
            self._alone = None
            self._pump()
        return taken

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: Any) -> None:
        # A return names no delivery tag. Returns come in the order of publishing, and each before the confirm of its
        # message: so it is the first that fits, among those not confirmed yet. Only of equal messages, one of which
        # has a queue to go to and the other has not, the wrong one could be taken: nobody can tell them apart.
        for publication in self._in_flight.values():
            if (
                publication.mandatory
                and not publication.done
                and publication.returned is None
                and publication.is_returned_as(exchange, routing_key, message)
            ):
                reason = getattr(error, "reply_text", None) or "no route"
                publication.returned = UndeliverableMessage(f"undeliverable: {reason} ({publication})")
                return
        _log.debug("the broker returned a message that was given up (exchange `%s`, key `%s`)", exchange, routing_key)

    # -- the channel's life

    def connection_up(self, raw: Any) -> None:
        """Set up a channel, and send what is waiting."""
        self._setting_up = concurrency.spawn(self._set_up, raw)

    def connection_lost(self, error: Exception) -> None:
        """Whatever was under way waits for the next connection."""
        self._forget_channel()

    def connection_relieved(self) -> None:
        """The broker takes messages again."""
        self._pump()

    def _set_up(self, raw: Any) -> None:
        while self._connection.raw is raw:
            channel = None
            try:
                self._declare_again(raw)
                channel = raw.channel()
                channel.confirm_select()
                check_open(channel)
            except (AMQPError, OSError) as exc:
                if self._connection.raw is not raw:
                    return
                _log.warning("cannot set up the channel to publish on (%s); trying again", describe(exc))
                if channel is not None:
                    close_channel(channel)
                concurrency.sleep(_RETRY_S)
            else:
                self._start_using(channel)
                return

    def _declare_again(self, raw: Any) -> None:
        for entity in self.declared:
            try:
                declare(raw, entity)
            except (ChannelError, ConfigurationError) as exc:
                _log.error("cannot declare %s again: %s", entity, describe(exc))

    def _start_using(self, channel: Any) -> None:
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        channel.on_closed = self._channel_closed
        self._next_tag = 1
        self._channel = channel
        self._pump()

    def _channel_closed(self, error: Exception) -> None:
        # A publication made the broker close the channel: to an exchange that does not exist or is not ours to write
        # to, or one bigger than the broker allows. When only one was under way, it is that one; else each of those
        # that it may have been is sent alone.
        if self._channel is None:
            return
        in_flight = list(self._in_flight.values())
        culprit = in_flight[0] if len(in_flight) == 1 and not self._given_up_tag else None
        if culprit is None:
            suspects = [each for each in in_flight if f"'{each.exchange}'" in str(error)] or in_flight
            for publication in suspects:
                publication.suspect = True
        else:
            self._in_flight.clear()
        self._forget_channel()
        raw = self._connection.raw
        if raw is not None:
            self._setting_up = concurrency.spawn(self._set_up, raw)
        if culprit is not None:
            culprit.settle(error)

    def _forget_channel(self) -> None:
        # What was under way is sent again on the next channel, before everything that has come since.
        self._channel = None
        self._alone = None
        self._given_up_tag = 0
        again = [each for each in self._in_flight.values() if not each.done]
        self._in_flight.clear()
        for publication in again:
            publication.returned = None
        self._suspects.extendleft(each for each in reversed(again) if each.suspect)
        self._waiting.extendleft(each for each in reversed(again) if not each.suspect)

    # -- deadlines

    def _schedule_sweep(self, at: float) -> None:
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        self._sweep_at = at
        self._sweep_timer = concurrency.schedule(max(at - monotonic(), _SWEEP_INTERVAL_MIN_S), self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        self._sweep_at = float("inf")
        now = monotonic()
        earliest = float("inf")
        for publication in (*self._in_flight.values(), *self._waiting, *self._suspects):
            if publication.done:
                continue
            if publication.deadline <= now:
                _settle_aside(publication, self._timeout_of(publication))
            elif publication.deadline < earliest:
                earliest = publication.deadline
        self._forget_given_up(now)
        if earliest < self._sweep_at:
            self._schedule_sweep(earliest)

    def _forget_given_up(self, now: float) -> None:
        # The broker may never say anything of them: a quorum queue without a majority confirms nothing.
        def is_given_up(publication: Publication) -> bool:
            return publication.done or publication.deadline <= now

        given_up = [tag for tag, each in self._in_flight.items() if is_given_up(each)]
        for tag in given_up:
            del self._in_flight[tag]
        self._given_up_tag = max([self._given_up_tag, *given_up])
        self._waiting = deque(each for each in self._waiting if not is_given_up(each))
        self._suspects = deque(each for each in self._suspects if not is_given_up(each))
        if self._alone is not None and is_given_up(self._alone):
            self._alone = None
            self._pump()

    def _timeout_of(self, publication: Publication) -> PublishTimeout:
        if self._connection.blocked is not None:
            why = f"the broker takes no messages: {self._connection.blocked}"
        elif not self._connection.connected:
            why = f"no connection to the broker: {self._connection.why_down}"
        else:
            why = "the broker has not confirmed it"
        known = "whether it arrived is not known" if publication.sent else "it was not sent"
        return PublishTimeout(f"not published in time ({publication}): {why}; {known}")


def _settle_aside(publication: Publication, error: BaseException) -> None:
    # Who is told may log, and a log handler may wait: neither the hub must, nor whoever sends the next message.
    concurrency.spawn_detached(publication.settle, error)
