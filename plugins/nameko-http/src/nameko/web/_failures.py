"""Unexpected exceptions: the client learns an id, and nothing else; the log has the rest under the same id."""

from __future__ import annotations

import logging
import uuid

from werkzeug.wrappers import Response

_log = logging.getLogger("nameko.web.server")


def internal_server_error(exc: BaseException, what: str, *, traceback: bool = True) -> Response:
    """The answer to a request that met `exc`, which is logged. For the arguments see `log_error`."""
    error_id = log_error(exc, what, traceback=traceback)
    return Response(f"Error: Internal Server Error: {error_id}\n", status=500, mimetype="text/plain")


def log_error(exc: BaseException, what: str, *, traceback: bool = True) -> str:
    """Log `exc`; the id under which it is logged.

    :param what: what failed
    :param traceback: whether to log that too; not if it is in the log already
    """
    error_id = uuid.uuid4().hex[:16]
    exc_info = (type(exc), exc, exc.__traceback__) if traceback else None
    _log.error("error %s: %s failed: %s: %s", error_id, what, type(exc).__name__, exc, exc_info=exc_info)
    return error_id
