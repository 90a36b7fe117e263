"""What ends an exchange early: a request that is refused, and a peer that is gone."""

from __future__ import annotations


class RequestRefused(Exception):
    """The request cannot be read as HTTP, or exceeds a limit: it is answered, and the connection closed.

    :param status: the status code of the answer
    :param reason: what is wrong, in one line that the client gets to see
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason


class ConnectionLost(Exception):
    """The peer is gone, or so slow that the connection was given up."""


class PeerTooSlow(ConnectionLost):
    """The peer did not keep up with a deadline."""
