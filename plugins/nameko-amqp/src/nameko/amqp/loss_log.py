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
        self._loss_is_told = False
        self._last_line_at = 0.0
        self._last_error = ""

    def connected(self) -> None:
        """It is up."""
        if self._down_since is not None:
            level = logging.INFO if self._loss_is_told else logging.DEBUG
            _log.log(level, "%s is back after %.1f s", self._what, monotonic() - self._down_since)
        else:
            _log.debug("%s is up", self._what)
        self._down_since = None

    def lost(self, why: str, brief: bool) -> None:
        """It was up, and is not any more.

        :param brief: it was not up for long: of those that are lost again and again for one reason, few are told
        """
        self._down_since = monotonic()
        self._loss_is_told = not (brief and self._was_told(why))
        if self._loss_is_told:
            self._note_line(why)
            _log.warning("%s is lost (%s); connecting again", self._what, why)

    def failed(self, why: str) -> None:
        """An attempt to connect has failed."""
        self._down_since = self._down_since or monotonic()
        if not self._was_told(why):
            self._loss_is_told = True
            self._note_line(why)
            _log.warning("%s cannot be made (%s); trying again", self._what, why)

    def _was_told(self, why: str) -> bool:
        return why == self._last_error and monotonic() - self._last_line_at < _LOG_INTERVAL_S

    def _note_line(self, why: str) -> None:
        self._last_error, self._last_line_at = why, monotonic()
