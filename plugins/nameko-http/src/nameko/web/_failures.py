"""Unexpected exceptions: the client learns an id, and nothing else; the log has the rest under the same id."""

from __future__ import annotations

import logging
import uuid

from werkzeug.wrappers import Response

_log = logging.getLogger("nameko.web.server")


def internal_server_error(exc: BaseException, what: str, *, traceback: bool = True) -> Response:
    """Log `exc` and make the answer to the request that met it.

    :param what: what failed, for the log
    :param traceback: whether to log that too; not if it is in the log already
    """
    error_id = uuid.uuid4().hex[:16]
    exc_info = (type(exc), exc, exc.__traceback__) if traceback else None
    _log.error("error %s: %s failed: %s: %s", error_id, what, type(exc).__name__, exc, exc_info=exc_info)
    return Response(f"Error: Internal Server Error: {error_id}\n", status=500, mimetype="text/plain")
