"""What the log says of a connection that is lost."""

from __future__ import annotations

import logging
from time import monotonic

from nameko.amqp.settings import AmqpSettings

_log = logging.getLogger(__name__)

# Seconds between log lines about one broker that is away.
_LOG_INTERVAL_S = 30.0


class LossLog:
    """One line when a connection is lost, one when it is back, and a few in between, however long that takes.

    :param settings: the broker
    :param role: of the connection
    """

    def __init__(self, settings: AmqpSettings, role: str) -> None:
        self._what = f"{role} connection to {settings.masked_uri}"
        self._down_since: float | None = None
        self._last_line_at = 0.0
        self._last_error = ""

    def connected(self) -> None:
        """It is up."""
        if self._down_since is not None:
            _log.info("%s is back after %.1f s", self._what, monotonic() - self._down_since)
        else:
            _log.debug("%s is up", self._what)
        self._down_since = None

    def lost(self, why: str) -> None:
        """It was up, and is not any more."""
        self._down_since = self._last_line_at = monotonic()
        self._last_error = why
        _log.warning("%s is lost (%s); connecting again", self._what, self._last_error)

    def failed(self, why: str) -> None:
        """An attempt to connect has failed."""
        now = monotonic()
        self._down_since = self._down_since or now
        if now - self._last_line_at < _LOG_INTERVAL_S and why == self._last_error:
            return
        self._last_error = why
        self._last_line_at = now
        _log.warning("%s cannot be made (%s); trying again", self._what, self._last_error)
