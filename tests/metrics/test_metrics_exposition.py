"""Where metrics are shown: on an address of their own and on the web server of a service, in processes of services."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from nameko.concurrency import Event
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.web.handlers import http
from nameko.web.server import WebServer

SHOP = """
    from nameko.rpc import rpc, RpcProxy
    from nameko.timer import timer

    class Shop:
        name = "shop"

        @rpc
        def sell(self):
            return "sold"

    class Customer:
        name = "customer"
        shop = RpcProxy("shop")

        @timer(interval=0.1)
        def buy(self):
            self.shop.sell()
"""
SOLD = {"service": "shop", "method": "sell", "entrypoint": "Rpc"}
LISTENING = r"METRICS_ADDRESS: listening on (127\.0\.0\.1:\d+)(/\S*)"


class Hello:
    name = "hello"

    @http("GET", "/hello")
    def hello(self, request: Any) -> str:
        return "hello"


def web_url_of(container: ServiceContainer) -> str:
    (server,) = (each for each in container.shared_extensions.values() if isinstance(each, WebServer))
    return f"http://{server.bound_address}"


def url_of(hosted: Any) -> str:
    found = hosted.find(LISTENING)
    return f"http://{found[1]}{found[2]}"


def test_services_in_a_process(host, scrape, eventually, broker_uri):
    # A customer whose shop closes first waits for as long as it may.
    hosted = host(SHOP, AMQP_URI=broker_uri, METRICS_ADDRESS="127.0.0.1:0", SHUTDOWN_TIMEOUT=2)
    url = url_of(hosted)
    hosted.expect("services ready")
    eventually(lambda: scrape(url)("nameko_workers_total", **SOLD, outcome="success") > 1, timeout_s=20)
    metrics = scrape(url)
    assert metrics("nameko_worker_wait_seconds_count", **SOLD) > 1
    assert metrics("nameko_amqp_connected", service="shop", connection="consume") == 1
    assert metrics("nameko_amqp_messages_rejected_total", service="customer") == 0
    assert metrics("process_resident_memory_bytes") > 1_000_000
    for service in ("shop", "customer"):  # not while greenthreads have to wait for their turn, on a busy machine
        eventually(lambda service=service: scrape(url)("nameko_ready", service=service) == 1, timeout_s=20)
    assert hosted.stop() == 0


@pytest.mark.rabbitmq
def test_a_broker_that_is_lost_and_found(host, scrape, eventually, proxy):
    hosted = host(SHOP, AMQP_URI=proxy.uri, METRICS_ADDRESS="127.0.0.1:0")
    url = url_of(hosted)
    hosted.expect("services ready")
    proxy.refusing = True
    proxy.reset_all()
    eventually(lambda: scrape(url)("nameko_amqp_connected", service="shop", connection="consume") == 0, timeout_s=20)
    assert scrape(url)("nameko_ready", service="shop") == 0
    proxy.refusing = False
    eventually(lambda: scrape(url)("nameko_ready", service="shop") == 1, timeout_s=30)
    assert scrape(url)("nameko_amqp_reconnects_total", service="shop", connection="consume") == 1


def test_on_the_web_server_while_all_workers_are_busy(run_container, scrape, eventually):
    release = Event()

    class Busy:
        name = "busy"

        @http("GET", "/wait")
        def method(self, request: Any) -> str:
            release.wait()
            return ""

    container = run_container(Busy, WEB_SERVER_ADDRESS="127.0.0.1:0", max_workers=1)
    url = web_url_of(container)
    (entrypoint,) = container.entrypoints
    container.spawn_worker(entrypoint, (None,), {})
    eventually(lambda: scrape(f"{url}/metrics")("nameko_workers_in_flight", service="busy") == 1)
    assert scrape(f"{url}/metrics")("nameko_http_open_connections", service="busy") == 1  # this one
    release.send(None)


def test_off_the_web_server(run_container):
    container = run_container(Hello, WEB_SERVER_ADDRESS="127.0.0.1:0", METRICS_PATH=False)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{web_url_of(container)}/metrics", timeout=20)


def test_the_formats_that_a_scraper_asks_for(host):
    hosted = host(SHOP, METRICS_ADDRESS="127.0.0.1:0", METRICS_PATH="/internal/metrics")
    url = url_of(hosted)
    assert url.endswith("/internal/metrics")
    request = urllib.request.Request(url, headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.headers["Content-Type"].startswith("application/openmetrics-text")
        families = list(text_string_to_metric_families(response.read().decode()))
    assert {"nameko_workers", "nameko_worker_wait_seconds", "nameko_amqp_reconnects"} <= {
        each.name for each in families
    }


def test_several_processes_have_an_address_each(host, scrape):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1] - 1
    hosted = host(SHOP, METRICS_ADDRESS=port, environ={"NAMEKO_WORKER_INDEX": "1", "NAMEKO_WORKER_COUNT": "2"})
    assert url_of(hosted) == f"http://127.0.0.1:{port + 1}/metrics"
    assert scrape(url_of(hosted))("nameko_workers_max", service="shop") == 10


def test_a_web_server_that_processes_share_shows_the_metrics_of_none(run_container, monkeypatch, caplog):
    monkeypatch.setenv("NAMEKO_WORKER_COUNT", "2")

    container = run_container(Hello, WEB_SERVER_ADDRESS="127.0.0.1:0")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{web_url_of(container)}/metrics", timeout=20)
    assert "metrics are not shown on a web server that processes share: set METRICS_ADDRESS" in caplog.text


def test_an_address_in_use_ends_the_start(host, run_container):
    with pytest.raises(ConfigurationError, match="METRICS_ADDRESS must be"):
        run_container(type("Service", (), {"name": "service"}), METRICS_ADDRESS="nowhere")
    first = host(SHOP, METRICS_ADDRESS="127.0.0.1:0")
    address = first.find(LISTENING)[1]
    second = host(SHOP, METRICS_ADDRESS=address)
    assert second.wait() == 1
    assert second.output.count(f"METRICS_ADDRESS: cannot listen on {address}: Address already in use") == 1
    assert "Traceback" not in second.output


def test_declaring_the_plugin_imports_no_prometheus_client():
    program = (
        "import sys, nameko.metrics._plugin as p; p.nameko_config_keys(); print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40, check=True)
    assert done.stdout.strip() == "False"
