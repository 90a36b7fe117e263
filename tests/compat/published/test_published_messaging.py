"""Published extensions that build on our entrypoints and clients for AMQP."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import kombu
import pytest

from nameko.exceptions import RemoteError
from nameko.standalone.events import event_dispatcher
from nameko.testing.utils import find_free_port

pytestmark = pytest.mark.rabbitmq


def attempts(host: Any, method: str) -> list[int]:
    return [each["attempt"] for each in host.seen(method)]


def test_amqp_retry_of_calls(host: Any) -> None:
    host.serve("with_amqp_retry")
    assert host.ask("patient", "ask", 1) == "answer to 1"
    assert attempts(host, "ask") == [1, 2, 3]
    assert host.ask("patient", "ask_decorated", 2) == "answer to 2"
    assert attempts(host, "ask_decorated") == [1, 2, 3]


def test_amqp_retry_gives_up(host: Any) -> None:
    host.serve("with_amqp_retry")
    with pytest.raises(RemoteError, match=r"^Expired Backoff aborted after '3' retries"):
        host.ask("patient", "ask_in_vain", 1)
    assert attempts(host, "ask_in_vain") == [1, 2, 3, 4]


def test_amqp_retry_of_events_and_messages(host: Any) -> None:
    host.serve("with_amqp_retry")
    event_dispatcher({"AMQP_URI": host.uri})("patience", "tested", "e")
    with kombu.Connection(host.uri) as connection, connection.Producer() as producer:
        producer.publish("m", exchange="patient-tasks", routing_key="task", serializer="json")
    host.wait_until(lambda: attempts(host, "handle") == [1, 2, 3] == attempts(host, "take"))


def test_cachetools(host: Any, tmp_path: Path) -> None:
    host.serve("with_cachetools", {"ASKED_BEFORE": str(tmp_path / "asked")})

    assert [host.ask("reader", "read", "a") for _ in range(3)] == ["found a"] * 3
    assert host.seen("asked") == [{"key": "a"}]
    assert [host.ask("reader", "read_flaky", "b") for _ in range(2)] == ["found b"] * 2
    assert host.seen("asked") == [{"key": "a"}, {"key": "b"}, {"key": "b"}]
    with pytest.raises(RemoteError, match="KeyError"):
        host.ask("reader", "read_missing", "c")


def test_atomicity(host: Any) -> None:
    host.serve("with_atomicity")

    with pytest.raises(RemoteError, match="not paid"):
        host.ask("shop", "sell", "tea", False)
    host.ask("shop", "sell", "cake", True)
    host.wait_until(lambda: host.seen("shipped"))
    assert host.seen("shipped") == [{"article": "cake"}]

    with pytest.raises(RemoteError, match="not available"):
        host.ask("shop", "reserve", "tea", False)
    host.ask("shop", "reserve", "cake", True)
    assert host.seen("released") == [{"article": "tea"}]


def test_prometheus(host: Any) -> None:
    port = find_free_port()
    host.serve("with_prometheus", {"WEB_SERVER_ADDRESS": f"127.0.0.1:{port}"})

    def metrics() -> dict[str, float]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": "text/plain"})
        with urllib.request.urlopen(request, timeout=20) as response:
            lines = response.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    host.ask("measured", "work")
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/fail", timeout=20)
    expected = {
        'measured_rpc_requests_total{method_name="work"}',
        'measured_events_total{event_type="worked",source_service="measured"}',
        'measured_consumer_requests_total{method_name="take"}',
        'measured_http_requests_total{endpoint="/fail",http_method="GET",status_code="500"}',
    }
    host.wait_until(lambda: {name for name, value in metrics().items() if value == 1} >= expected)
    host.wait_until(lambda: metrics().get('measured_timer_requests_total{method_name="tick"}', 0) > 1)
    names = {re.sub(r"\{.*", "", name) for name in metrics()}
    assert {"measured_service_running_workers", "measured_rpc_request_latency_seconds_bucket"} <= names
    assert metrics()["measured_service_max_workers"] == 10
