"""`nameko services`: what services consist of, as a table, JSON and graphs."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

SERVICES = """
from kombu import Exchange, Queue

from nameko.events import BROADCAST, SINGLETON, EventDispatcher, event_handler
from nameko.extensions import DependencyProvider
from nameko.messaging import Publisher, consume
from nameko.rpc import RpcProxy, rpc
from nameko.timer import timer
from nameko.web.handlers import http
from nameko.web.websocket import rpc as ws_rpc


class Shop:
    name = "shop"

    stock = RpcProxy("stock")
    dispatch = EventDispatcher()
    archive = Publisher(exchange=Exchange("archive"))

    @http("GET,HEAD", "/articles/<int:article>")
    def show(self, request, article): ...

    @timer(interval=0.5)
    def clean(self): ...

    @consume(Queue("orders", exchange=Exchange("incoming"), routing_key="order"))
    def take(self, order): ...

    @ws_rpc
    def follow(self, socket_id): ...


class Odd(DependencyProvider):
    def describe(self):
        raise RuntimeError("no words")


class Stock:
    name = "stock"

    odd = Odd()

    @rpc
    def count(self, article): ...

    @event_handler("shop", "sold")
    def sold(self, article): ...

    @event_handler("bank", 'pay "now" #1', handler_type=SINGLETON)
    def pay(self, bill): ...

    @event_handler("shop", "closing", handler_type=BROADCAST, reliable_delivery=False)
    def close(self, _): ...
"""


@pytest.fixture
def services(project: Any) -> Any:
    """`services(*arguments)`: runs `nameko services shopping`; what it writes."""
    project.write("shopping.py", SERVICES)

    def run(*arguments: str) -> str:
        ended = project.nameko("services", *arguments, "shopping")
        assert ended.returncode == 0, ended.stderr
        return str(ended.stdout)

    return run


def test_json_has_everything(services: Any) -> None:
    shop, stock = json.loads(services("--format", "json"))
    assert (shop["name"], shop["cls"], stock["name"]) == ("shop", "shopping.Shop", "stock")
    assert {each["name"]: (each["kind"], each["details"]) for each in shop["entrypoints"]} == {
        "show": ("HttpRequestHandler", {"method": "GET,HEAD", "url": "/articles/<int:article>"}),
        "clean": ("Timer", {"interval_s": "0.5"}),
        "take": ("Consumer", {"queue": "orders", "exchange": "incoming", "routing_key": "order"}),
        "follow": ("WebSocketRpc", {"method": "websocket", "url": "/ws"}),
    }
    assert {each["name"]: (each["kind"], each["details"]) for each in shop["dependencies"]} == {
        "stock": ("ServiceRpc", {"calls": "stock"}),
        "dispatch": ("EventDispatcher", {"exchange": "shop.events"}),
        "archive": ("Publisher", {"exchange": "archive"}),
    }
    handlers = {each["name"]: each["details"] for each in stock["entrypoints"]}
    assert handlers["count"] == {"queue": "rpc-stock", "exchange": "nameko-rpc", "routing_key": "stock.count"}
    assert handlers["sold"]["queue"] == "evt-shop-sold--stock.sold"
    assert handlers["pay"]["queue"] == 'evt-bank-pay "now" #1'
    assert handlers["close"]["queue"] == "evt-shop-closing--stock.close-*"


def test_the_table_has_a_line_for_each_extension(services: Any) -> None:
    lines = [line.split() for line in services().splitlines()]
    assert ["shop", "(shopping.Shop)"] in lines
    assert ["clean", "Timer", "interval_s=0.5"] in lines
    assert ["stock", "ServiceRpc", "calls=stock"] in lines


def test_an_extension_that_cannot_say_what_it_is_hides_nothing(services: Any) -> None:
    lines = services().splitlines()
    assert any("odd" in line and "error=describe() raised RuntimeError: no words" in line for line in lines)
    assert any("count" in line for line in lines)


def test_mermaid_has_calls_events_and_services_that_are_only_heard_of(services: Any) -> None:
    lines = [line.strip() for line in services("--format", "mermaid").splitlines()]
    assert lines[0] == "flowchart LR"
    assert {'s0["shop"]', 's1["stock"]', 's2["bank"]'} <= set(lines)
    assert 's0 -->|"calls"| s1' in lines
    assert 's0 -.->|"sold"| s1' in lines
    assert 's2 -.->|"pay #quot;now#quot; #35;1"| s1' in lines
    assert "style s2 stroke-dasharray: 5" in lines


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_graphviz_draws_it(services: Any, project: Any) -> None:
    assert "<svg" in services("--format", "svg")
    services("--format", "png", "--output", "graph.png")
    assert (project.path / "graph.png").read_bytes().startswith(b"\x89PNG")


def test_graphviz_gets_names_in_any_script(project: Any) -> None:
    project.write(
        "bar.py", "from nameko.rpc import rpc\n\nclass Bar:\n    name = 'café'\n\n    @rpc\n    def order(self): ..."
    )
    assert '    "café"\n' in project.nameko("services", "--format", "dot", "bar").stdout


def test_says_what_to_do_without_graphviz(services: Any, project: Any) -> None:
    project.environ["PATH"] = "/nowhere"
    ended = project.nameko("services", "--format", "svg", "--output", "graph.svg", "shopping")
    assert ended.returncode == 1
    assert ended.stderr == "Error: --format svg needs `dot` of graphviz: install it, or use --format dot or mermaid\n"
    assert not (project.path / "graph.svg").exists()


def test_a_picture_is_not_written_to_a_terminal(services: Any, project: Any) -> None:
    terminal = project.start_in_terminal("services", "--format", "png", "shopping")
    terminal.expect("Error: --format png is not for a terminal: say --output FILE")
    assert terminal.wait() == 2
    assert "PNG" not in terminal.output


def test_a_service_that_cannot_work_is_refused_in_one_line(project: Any) -> None:
    project.write("nameless.py", "from nameko.timer import timer\nclass A:\n    @timer(1)\n    def a(self): ...\n")
    ended = project.nameko("services", "nameless")
    assert ended.returncode == 1
    assert "has no `name`" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
