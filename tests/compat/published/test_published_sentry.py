"""nameko-sentry, with a stub of Sentry."""

from __future__ import annotations

import json
import queue
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nameko.exceptions import RemoteError
from nameko.testing.utils import find_free_port

pytestmark = pytest.mark.rabbitmq


class Sentry(ThreadingHTTPServer):
    """Takes reports."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reports: queue.Queue[dict[str, Any]] = queue.Queue()
        self.dsn = f"http://key:secret@127.0.0.1:{self.server_port}/42"


class _Handler(BaseHTTPRequestHandler):
    server: Sentry

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/api/42/store/"
        self.server.reports.put(json.loads(zlib.decompress(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    """A stub of Sentry."""
    with Sentry() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_sentry(host: Any, sentry: Sentry) -> None:
    port = find_free_port()
    host.serve("with_sentry", {"SENTRY": {"DSN": sentry.dsn}, "WEB_SERVER_ADDRESS": f"127.0.0.1:{port}"})

    with pytest.raises(RemoteError, match="out of order"):
        host.ask("broken", "fail", "out of order")
    report = sentry.reports.get(timeout=20)
    assert (report["level"], report["logger"]) == (40, "broken.fail")
    assert report["exception"]["values"][0]["value"] == "out of order"
    assert report["tags"]["service_name"] == "broken"
    assert report["tags"]["call_id"].startswith("broken.fail.")
    assert report["tags"]["parent_call_id"].startswith("standalone_rpc_proxy.call.")

    with pytest.raises(RemoteError, match="as expected"):
        host.ask("broken", "fail", "as expected")
    assert sentry.reports.get(timeout=20)["level"] == 30

    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/orders?from=test",
        data=b'{"article": "tea"}',
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=20)
    report = sentry.reports.get(timeout=20)
    assert report["exception"]["values"][0]["value"] == "no tea"
    assert report["request"]["url"] == f"http://127.0.0.1:{port}/orders"
    assert (report["request"]["method"], report["request"]["query_string"]) == ("POST", "from=test")

    host.ask("broken", "breathe")
    assert sentry.reports.get(timeout=20)["message"] == "still alive"
