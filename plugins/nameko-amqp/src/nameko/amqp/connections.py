"""A connection to the broker that is kept up. A process has two: to publish and to consume, see `registry`.

A connection has a greenthread of its own, which connects, reads and dispatches, and connects again when the connection
is lost, for as long as anybody holds a lease. Whoever uses it is told when it comes and goes (`ConnectionUser`), and
restores its own part: no state of the broker or the network ends anything here.

::

    CONNECTING ──> CONNECTED ──> LOST ──> CONNECTED ...
         └──────────────┴──────────┴────> CLOSED
"""

from __future__ import annotations

import enum
import logging
import os
import random
from collections.abc import Callable
from itertools import cycle
from time import monotonic
from typing import Any, Protocol

from nameko import concurrency
from nameko.amqp.errors import BrokerRefused, BrokerUnreachable
from nameko.amqp.failures import REFUSALS, describe, describe_first, remedy
from nameko.amqp.green_transport import GreenTransport
from nameko.amqp.heart import Heart
from nameko.amqp.hub_watch import watches
from nameko.amqp.loss_log import LossLog
from nameko.amqp.settings import AmqpSettings, mask_uri
from nameko.amqp.transport import make_connection
from nameko.concurrency import Event
from nameko.exceptions import ConfigurationError

_log = logging.getLogger(__name__)

#: Seconds between attempts to connect, at most; a tenth of a second at first, then doubled, jittered.
BACKOFF_MAX_S = 5.0
BACKOFF_MIN_S = 0.1
#: The same when the broker has answered, and refused.
BACKOFF_REFUSED_S = 6.0
#: A connection that is lost sooner than this is one more attempt that failed: whoever lets clients in only to throw
#: them out is asked as seldom as one that is away.
BRIEF_S = 0.25
#: Seconds an orderly close may take.
CLOSE_TIMEOUT_S = 0.5


class State(enum.Enum):
    """Of a connection."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    CLOSED = "closed"


class ConnectionUser(Protocol):
    """Somebody who holds a lease. These are called in the connection's own greenthread and must not block."""

    def connection_up(self, raw: Any) -> None:
        """There is a (new) connection, `raw`, with nothing on it."""

    def connection_lost(self, error: Exception) -> None:
        """It is gone, with all its channels."""

    def connection_relieved(self) -> None:
        """The broker takes messages again, after a time in which it did not."""


class ManagedConnection:
    """One connection to the broker, kept up for as long as it is leased.

    :param settings: the broker
    :param role: what it is for; part of its name at the broker
    :param on_up: called each time that it is up, in its own greenthread; must not block
    """

    def __init__(self, settings: AmqpSettings, role: str, on_up: Callable[[], None] = lambda: None) -> None:
        self.settings = settings
        self.role = role
        self.state = State.CONNECTING
        self.raw: Any = None  # py-amqp's, while connected
        self.blocked: str | None = None  # why the broker takes no messages, while it does not
        self.error: Exception | None = None  # why there is no connection
        self.reconnects = 0  # how often it came back after it was lost
        self._transport: GreenTransport | None = None
        self._users: list[ConnectionUser] = []
        self._on_up = on_up
        self._changed = Event()
        self._pause = Event()
        self._uris = cycle(settings.uris)
        self._failed: dict[str, Exception] = {}  # by URI: how the latest attempt has ended, since it was last up
        self._connected_before = False
        self._up_at = 0.0  # monotonic
        self._log = LossLog(settings, role)
        self._thread = concurrency.spawn(self._run)

    # -- for users

    @property
    def connected(self) -> bool:
        """Whether it is up right now."""
        return self.state is State.CONNECTED

    @property
    def takes_messages(self) -> bool:
        """Whether what is sent now would be taken soon: the broker has not said otherwise, and keeps up."""
        return self.blocked is None and not self._congested()

    def not_ready_reasons(self) -> list[str]:
        """Why nothing can be sent or received over it right now, one line each; empty when it can."""
        if not self.connected:
            return [f"no {self.role} connection to {self.settings.masked_uri}"]
        reasons = []
        silent_s = monotonic() - self._transport.last_read_at if self._transport is not None else 0.0
        if self.settings.heartbeat_s is not None and silent_s > 2 * self.settings.heartbeat_s:
            reasons.append(f"the broker has said nothing for {silent_s:.0f} s over the {self.role} connection")
        if self.blocked is not None:
            reasons.append(f"the broker takes no messages: {self.blocked}")
        return reasons

    def add(self, user: ConnectionUser) -> None:
        """Tell `user` about the connection from now on; at once when it is up."""
        self._users.append(user)
        if self.connected:
            user.connection_up(self.raw)

    def remove(self, user: ConnectionUser) -> None:
        """Tell it nothing more."""
        if user in self._users:
            self._users.remove(user)

    def wait_connected(self, timeout_s: float) -> None:
        """Wait until the connection is up.

        :raises BrokerRefused: when the broker refuses, and has not accepted before
        :raises ConfigurationError: when the TLS options cannot work
        :raises BrokerUnreachable: when it is not up within `timeout_s`, or is closed
        """
        deadline = monotonic() + timeout_s
        while not self.connected:
            remaining = deadline - monotonic()
            if self._refused:
                if isinstance(self.error, ConfigurationError):
                    raise self.error
                raise BrokerRefused(
                    f"the broker {self.settings.masked_uri} refuses: {self.why_down}{remedy(self.error)}"
                )
            if remaining <= 0 or self.state is State.CLOSED:
                raise BrokerUnreachable(
                    f"the broker {self.settings.masked_uri} cannot be reached: {self.why_down}; "
                    "is it up, and AMQP_URI right? (START_TIMEOUT says how long to try)"
                )
            self._changed.wait(remaining)

    @property
    def why_down(self) -> str:
        """Why there is no connection, in one line: what became of the latest attempt at each of the brokers."""
        describe_one = describe if self._connected_before else describe_first
        if len(self.settings.uris) == 1 or not self._failed:
            return describe_one(self.error)
        return "; ".join([f"{mask_uri(uri)}: {describe_one(error)}" for uri, error in self._failed.items()])

    @property
    def _refused(self) -> bool:
        return not self._connected_before and self._all_refuse

    @property
    def _all_refuse(self) -> bool:
        refusals = [uri for uri, error in self._failed.items() if isinstance(error, REFUSALS)]
        return isinstance(self.error, ConfigurationError) or set(refusals) == set(self.settings.uris)

    def retry_now(self) -> None:
        """Try to connect at once, should it be waiting to: there is reason to believe that the broker is back."""
        pause, self._pause = self._pause, Event()
        pause.send(None)

    def close(self, orderly: bool = True) -> None:
        """Close for good; returns within `CLOSE_TIMEOUT_S`, whatever the broker does.

        :param orderly: send what is still to be sent and say goodbye; otherwise the socket is dropped
        """
        if self.state is State.CLOSED:
            return
        raw = self.raw
        self._set_state(State.CLOSED)
        if orderly and raw is not None and self.blocked is None:
            self._say_goodbye(raw)
        self._thread.kill()

    def _say_goodbye(self, raw: Any) -> None:
        timeout = concurrency.Timeout(CLOSE_TIMEOUT_S)
        try:
            raw.close()
        except concurrency.Timeout as exc:
            if exc is not timeout:
                raise
            _log.debug("the broker did not answer to the end of the connection")
        except Exception as exc:
            _log.debug("while closing a connection: %s", describe(exc))
        finally:
            timeout.cancel()

    # -- the connection's own greenthread

    def _run(self) -> None:
        failures = 0
        while self.state is not State.CLOSED:
            uri = next(self._uris)
            try:
                raw = self._connect(uri)
            except Exception as exc:
                self._note_failure(uri, exc)
                self._pause.wait(backoff_s(failures, refused=self._all_refuse))
                failures += 1
                continue
            self._serve(raw)
            if self._was_brief:
                concurrency.sleep(backoff_s(failures))
                failures += 1
            else:
                failures = 0

    @property
    def _was_brief(self) -> bool:
        return monotonic() - self._up_at < BRIEF_S

    def _connect(self, uri: str) -> Any:
        settings = self.settings
        # py-amqp's timeouts start again with each frame, and name resolution has none.
        with concurrency.cancel_after(
            settings.connect_timeout_s, TimeoutError(f"no connection within {settings.connect_timeout_s:g} s")
        ):
            return make_connection(uri, self._connection_options(uri))

    def _connection_options(self, uri: str) -> dict[str, Any]:
        settings = self.settings
        options: dict[str, Any] = {
            "heartbeat": settings.heartbeat_s or 0,
            "connect_timeout": settings.connect_timeout_s,
            "login_method": settings.login_method,
            "transport_options": {
                **settings.transport_options,
                "client_properties": {
                    "connection_name": f"nameko {self.role} (pid {os.getpid()})",
                    **settings.transport_options.get("client_properties", {}),
                },
                "max_message_bytes": settings.max_message_bytes,
                "on_blocked": self._on_blocked,
                "on_unblocked": self._on_unblocked,
            },
        }
        tls = settings.tls_options(uri)
        if tls is not None:
            options["ssl"] = tls
        return options

    def _serve(self, raw: Any) -> None:
        heart = Heart(raw, self._drop, watches.current()) if getattr(raw, "heartbeat", 0) else None
        error: Exception = ConnectionError("closed")
        try:
            self._announce(raw)
            while True:
                raw.drain_events()
        except Exception as exc:
            # Of the network, of the broker, or of what it sent: the connection is of no use any more. A bug shows up
            # here as well, and must not end the greenthread that everybody relies on.
            error = exc
        finally:
            if heart is not None:
                heart.stop()
            raw.collect()
            self.raw = self._transport = self.blocked = None
        self._note_loss(heart.error if heart is not None and heart.error is not None else error)

    def _announce(self, raw: Any) -> None:
        self.raw = raw
        self._up_at = monotonic()
        self.error = None
        self._failed.clear()
        self.reconnects += self._connected_before
        self._connected_before = True
        transport = getattr(raw, "transport", None)
        if isinstance(transport, GreenTransport):
            self._transport = transport
            transport.on_relieved = self._tell_relieved
        self._log.connected()
        self._set_state(State.CONNECTED)
        self._tell_users("connection_up", raw)
        self._on_up()

    def _note_loss(self, error: Exception) -> None:
        self.error = error
        if self.state is not State.CLOSED:
            self._log.lost(self.why_down, self._was_brief)
            self._set_state(State.LOST)
        self._tell_users("connection_lost", error)

    def _congested(self) -> bool:
        return self._transport is not None and self._transport.congested

    def _tell_relieved(self) -> None:
        self._tell_users("connection_relieved")

    def _tell_users(self, event: str, *arguments: Any) -> None:
        for user in list(self._users):
            try:
                getattr(user, event)(*arguments)
            except Exception:
                _log.exception("%r failed in %s()", user, event)

    def _note_failure(self, uri: str, error: Exception) -> None:
        self.error = self._failed[uri] = error
        if not self._refused:  # otherwise the start fails, with the reason
            self._log.failed(self.why_down)
        self._notify()

    def _drop(self) -> None:
        raw = self.raw
        if raw is not None:
            raw.collect()

    def _on_blocked(self, reason: str) -> None:
        self.blocked = reason or "no reason given"
        _log.warning("the broker takes no messages (connection blocked: %s); publishers wait", self.blocked)
        self._notify()

    def _on_unblocked(self) -> None:
        self.blocked = None
        _log.warning("the broker takes messages again (connection unblocked)")
        self._tell_relieved()
        self._notify()

    def _set_state(self, state: State) -> None:
        self.state = state
        self._notify()

    def _notify(self) -> None:
        changed, self._changed = self._changed, Event()
        changed.send(None)

    def __repr__(self) -> str:
        return f"<ManagedConnection {self.role} to {self.settings.masked_uri}, {self.state.value}>"


def backoff_s(failures: int, refused: bool = False) -> float:
    """Seconds to wait after so many failures in a row: jittered, so that a thousand clients do not come back at once.

    :param refused: the broker answered and said no, which will hardly change soon, and each attempt costs it work
    """
    if refused:
        return BACKOFF_REFUSED_S + random.uniform(0, 1)
    ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures, 10))
    return random.uniform(ceiling / 2, ceiling)
