"""One trace over services in processes of their own, and a program that is none."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.rabbitmq

Eventually = Callable[..., Any]
Log = Callable[..., list[list[str]]]

# Each span becomes a line: kind, name, trace id, span id, parent's span id, process id.
TELEMETRY = """
from harness.journal import log
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import {processor}, SpanExporter, SpanExportResult

class Journal(SpanExporter):
    def export(self, spans):
        for span in spans:
            name, context = span.name.replace(" ", "_"), span.context
            parent = span.parent.span_id if span.parent else None
            log(span.kind.name, name, context.trace_id, context.span_id, parent)
        return SpanExportResult.SUCCESS

provider = TracerProvider()
provider.add_span_processor({processor}(Journal()))
trace.set_tracer_provider(provider)
"""

SHOP = """
from nameko.web.handlers import http

class Shop:
    name = "shop"
    stock = RpcProxy("stock")

    @http("GET", "/buy")
    def buy(self, request):
        return self.stock.take("tea")
"""

STOCK = """
class Stock:
    name = "stock"
    dispatch = EventDispatcher()

    @rpc
    def take(self, article):
        self.dispatch("taken", article)
        return article
"""

MAIL = """
class Mail:
    name = "mail"

    @event_handler("stock", "taken")
    def tell(self, article):
        pass
"""


CALLER = """
import sys
from nameko.standalone.events import event_dispatcher
from nameko.standalone.rpc import ServiceRpcProxy

config = {"AMQP_URI": sys.argv[1]}
with ServiceRpcProxy("stock", config, timeout=20) as stock:
    with trace.get_tracer("script").start_as_current_span("script"):
        assert stock.take("tea") == "tea"
        dispatch = event_dispatcher(config)
        dispatch("stock", "lost", "tea")
        dispatch.close()
"""


def traced(source: str, processor: str = "SimpleSpanProcessor") -> str:
    return TELEMETRY.format(processor=processor) + source


def spans_of(log: Log) -> dict[tuple[str, str], dict[str, str]]:
    return {
        (kind, name): {"trace": trace, "id": span, "parent": parent, "pid": pid}
        for kind, name, trace, span, parent, pid in log()
    }


def test_over_http_rpc_and_an_event(
    service_process: Any,
    log: Log,
    eventually: Eventually,
    unused_port: int,
) -> None:
    mail, stock = service_process(traced(MAIL)), service_process(traced(STOCK))
    shop = service_process(traced(SHOP), WEB_SERVER_ADDRESS=f"127.0.0.1:{unused_port}")
    with urllib.request.urlopen(f"http://127.0.0.1:{unused_port}/buy", timeout=20) as answer:
        assert answer.read() == b"tea"
    eventually(lambda: len(log()) == 5, timeout_s=20)

    spans = spans_of(log)
    chain = [
        (shop, ("SERVER", "GET_/buy")),
        (shop, ("CLIENT", "stock/take")),
        (stock, ("SERVER", "stock/take")),
        (stock, ("PRODUCER", "send_stock.events:taken")),
        (mail, ("CONSUMER", "process_stock.events:taken")),
    ]
    assert len({span["trace"] for span in spans.values()}) == 1
    assert [spans[key]["pid"] for _, key in chain] == [str(process.pid) for process, _ in chain]
    assert [spans[key]["parent"] for _, key in chain] == ["None", *(spans[key]["id"] for _, key in chain[:-1])]


def test_a_script_and_a_service_that_exports_in_batches(
    service_process: Any,
    processes: Any,
    log: Log,
    eventually: Eventually,
    rabbitmq_uri: str,
) -> None:
    # The script is not monkey patched, and the service's spans are exported at its end.
    service = service_process(traced(STOCK, "BatchSpanProcessor"))
    script = processes.run_script(traced(CALLER), rabbitmq_uri)
    assert script.wait() == 0
    service.send_signal(signal.SIGTERM)
    assert service.wait() == 0

    eventually(lambda: len(log()) == 5, timeout_s=20)
    spans = spans_of(log)
    script_span = spans["INTERNAL", "script"]
    assert spans["CLIENT", "stock/take"]["parent"] == script_span["id"]
    assert spans["SERVER", "stock/take"]["parent"] == spans["CLIENT", "stock/take"]["id"]
    own = [("INTERNAL", "script"), ("CLIENT", "stock/take"), ("PRODUCER", "send_stock.events:lost")]
    assert {spans[key]["pid"] for key in own} == {str(script.pid)}
    assert spans["PRODUCER", "send_stock.events:lost"]["parent"] == script_span["id"]


IMPORTS = """
import sys
from nameko.extensions import DependencyProvider, Entrypoint
from nameko.testing.plugins import run_service

class Failing(DependencyProvider):
    def setup(self):
        raise ZeroDivisionError

class Service:
    name = "service"
    run = Entrypoint.decorator(lambda self: None)

class Broken(Service):
    failing = Failing()

def imported():
    return any(name.startswith("opentelemetry") for name in sys.modules)

try:
    with run_service(Broken, plugins=["tracing"]):
        pass
except ZeroDivisionError:
    print(imported())
with run_service(Service, plugins=["tracing"]):
    print(imported())
"""


def test_opentelemetry_is_imported_when_a_service_has_started() -> None:
    # Neither by the first worker, for which all others would wait, nor by a kill, which has no time for it.
    ended = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout.split() == ["False", "True"], ended.stderr
