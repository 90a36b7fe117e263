"""The access log: one line for each request, as most tools read it (`common`) or as JSON."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

_log = logging.getLogger("nameko.web.access")


class AccessLog:
    """Writes to the logger `nameko.web.access`, at level INFO.

    :param form: `"common"` (NCSA common log format, with the duration in milliseconds behind it) or `"json"`
    """

    def __init__(self, form: str) -> None:
        self._line = _json if form == "json" else _common

    def record(self, environ: Mapping[str, Any], status: str, sent_bytes: int, duration_s: float) -> None:
        """Log one request and its response."""
        entry = {
            "time": datetime.now(timezone.utc).astimezone(),
            "remote_addr": environ.get("REMOTE_ADDR") or "-",
            "method": environ.get("REQUEST_METHOD", "-"),
            "target": environ.get("REQUEST_URI", "-"),
            "protocol": environ.get("SERVER_PROTOCOL", "-"),
            "status": int(status[:3] or 0),
            "bytes": sent_bytes,
            "duration_ms": round(duration_s * 1000, 3),
            "user_agent": environ.get("HTTP_USER_AGENT"),
            "referer": environ.get("HTTP_REFERER"),
        }
        _log.info("%s", self._line(entry))


def _json(entry: dict[str, Any]) -> str:
    return json.dumps({**entry, "time": entry["time"].isoformat(timespec="milliseconds")})


def _common(entry: dict[str, Any]) -> str:
    time = entry["time"].strftime("%d/%b/%Y:%H:%M:%S %z")
    request = f"{entry['method']} {entry['target']} {entry['protocol']}".replace("\\", "\\\\").replace('"', '\\"')
    return f'{entry["remote_addr"]} - - [{time}] "{request}" {entry["status"]} {entry["bytes"]} {entry["duration_ms"]}'
