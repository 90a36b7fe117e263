"""Row 24: handlers that keep all greenthreads from running."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.journal import Log
from harness.node_fixtures import HEARTBEAT_S
from harness.proxy import Proxy
from nameko.standalone.events import event_dispatcher

Eventually = Callable[..., Any]
Figure = Callable[[str, float, float], None]

TIMEOUT_S = 80 + 10 * HEARTBEAT_S

HOG = """
class Hog:
    name = "hog"
    readiness = Readiness()

    @event_handler("source", "happened")
    def burn(self, seconds):
        log("begun", time.monotonic())
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            pass
        log("effect", seconds)
"""


@pytest.mark.matrix
@pytest.mark.timeout(TIMEOUT_S)
def test_row_24_handler_that_burns_cpu(
    proxy: Proxy, run_services: Any, node_uri: str, log: Log, figure: Figure, eventually: Eventually
) -> None:
    service = run_services(HOG)
    event_dispatcher({"AMQP_URI": node_uri})("source", "happened", 3.5 * HEARTBEAT_S)
    begun_at = float(eventually(lambda: log("begun"), timeout_s=20)[0][1])
    service.expect("burn (")
    line_s = time.monotonic() - begun_at
    eventually(lambda: log("effect"), timeout_s=TIMEOUT_S)
    figure("seconds until a line says what keeps the greenthreads", line_s, 2)
    # It would come again as soon as it came at all, as it is not acknowledged when the connection is lost.
    time.sleep(HEARTBEAT_S)
    figure("executions", len(log("begun")), 1)
    assert proxy.count("accepted") == 2
    assert any("greenthreads_had_to_wait" in word for line in log("unready") for word in line)
    assert service.status is None


@pytest.mark.matrix
@pytest.mark.timeout(TIMEOUT_S)
def test_row_24_handler_that_hangs_is_given_up(
    run_services: Any, node_uri: str, log: Log, figure: Figure, eventually: Eventually
) -> None:
    hanging = run_services(HOG)
    event_dispatcher({"AMQP_URI": node_uri})("source", "happened", 3600)
    begun_at = float(eventually(lambda: log("begun"), timeout_s=20)[0][1])
    run_services(HOG.replace("seconds = ", "").replace("+ seconds", "+ 0"))
    other = eventually(lambda: log("effect"), timeout_s=TIMEOUT_S)
    # 3.5 heartbeats of grace, and what the broker takes to find out.
    figure("seconds until another process has it", time.monotonic() - begun_at, (3.5 + 3) * HEARTBEAT_S)
    assert other[0][-1] != str(hanging.pid)
    for _ in range(2):
        hanging.send_signal(signal.SIGTERM)
        time.sleep(0.2)  # signals that come at once are one
    assert hanging.wait() == 128 + signal.SIGTERM
