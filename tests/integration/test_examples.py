"""Every example does what it says: services as processes of their own, calling each other over RabbitMQ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nameko.standalone.rpc import ClusterRpcProxy

EXAMPLES = Path(__file__).parents[2] / "examples"

RunServices = Callable[..., Any]
Fetch = Callable[..., tuple[int, dict[str, str], str]]


def test_every_example_is_in_the_list() -> None:
    listed = (EXAMPLES / "README.md").read_text()
    assert [path.name for path in EXAMPLES.glob("*.py") if f"({path.name})" not in listed] == []


@pytest.mark.rabbitmq
def test_quickstart_in_two_processes(
    rabbitmq_uri: str, run_services: RunServices, web_address: str, fetch: Fetch, eventually: Callable[..., object]
) -> None:
    run_services("--broker", rabbitmq_uri, "examples.quickstart:Greeter")
    reception = run_services(
        "--broker", rabbitmq_uri, "-d", f"WEB_SERVER_ADDRESS={web_address}", "examples.quickstart:Reception"
    )

    assert fetch(f"http://{web_address}/greet/Ada")[2] == "Hello, Ada!\n"
    eventually(lambda: reception.prints("event: Ada was greeted"))
    eventually(lambda: reception.prints("timer: Hello, it is "), timeout_s=10)


def test_quickstart_without_a_broker(
    run_services: RunServices, web_address: str, fetch: Fetch, eventually: Callable[..., object]
) -> None:
    process = run_services("-d", f"WEB_SERVER_ADDRESS={web_address}", "examples.quickstart")

    assert fetch(f"http://{web_address}/greet/Ada")[2] == "Hello, Ada!\n"
    eventually(lambda: process.prints("event: Ada was greeted"))
    eventually(lambda: process.prints("timer: Hello, it is "), timeout_s=10)


@pytest.mark.rabbitmq
def test_rpc(rabbitmq_uri: str, run_services: RunServices, run_script: Callable[..., str]) -> None:
    run_services("--broker", rabbitmq_uri, "examples.rpc_services:ServiceX")
    run_services("--broker", rabbitmq_uri, "examples.rpc_services:ServiceY")

    printed = run_script("rpc_client.py", rabbitmq_uri)

    assert [line for line in ("hellø-x-y", "hello-x-y", "world-x-y") if line not in printed] == []


@pytest.mark.rabbitmq
def test_event_reaches_the_other_service(
    rabbitmq_uri: str, run_services: RunServices, eventually: Callable[..., object]
) -> None:
    run_services("--broker", rabbitmq_uri, "examples.events_services:ServiceA")
    listener = run_services("--broker", rabbitmq_uri, "examples.events_services:ServiceB")

    with ClusterRpcProxy({"AMQP_URI": rabbitmq_uri}, timeout=10) as rpc:
        rpc.service_a.dispatching_method("payload")

    eventually(lambda: listener.prints("service b received: payload"))


@pytest.mark.rabbitmq
def test_broadcast_reaches_every_instance(
    rabbitmq_uri: str, run_services: RunServices, run_script: Callable[..., str], eventually: Callable[..., object]
) -> None:
    listeners = [run_services("--broker", rabbitmq_uri, "examples.events_broadcast") for _ in range(3)]

    run_script("events_dispatch.py", rabbitmq_uri)

    for listener in listeners:
        eventually(lambda listener=listener: listener.prints("pong from listener"))


def test_http(run_services: RunServices, web_address: str, fetch: Fetch) -> None:
    run_services("-d", f"WEB_SERVER_ADDRESS={web_address}", "examples.http")
    url = f"http://{web_address}"

    status, headers, body = fetch(f"{url}/get/42")
    assert (status, headers["Content-Type"], json.loads(body)) == (200, "text/plain; charset=utf-8", {"value": 42})
    assert fetch(f"{url}/post", "POST", "post body")[::2] == (200, "received: post body")
    for method in ("GET", "PUT", "POST", "DELETE"):
        assert fetch(f"{url}/multi", method)[::2] == (200, method)


def test_advanced_http(run_services: RunServices, web_address: str, fetch: Fetch) -> None:
    run_services("-d", f"WEB_SERVER_ADDRESS={web_address}", "examples.advanced_http")
    url = f"http://{web_address}"

    assert fetch(f"{url}/privileged")[::2] == (403, "Forbidden")
    status, headers, body = fetch(f"{url}/headers")
    assert (status, headers["Location"], body) == (201, "https://www.example.com/widget/1", "")
    assert fetch(f"{url}/custom")[::2] == (200, "payload")


def test_http_exceptions(run_services: RunServices, web_address: str, fetch: Fetch) -> None:
    run_services("-d", f"WEB_SERVER_ADDRESS={web_address}", "examples.http_exceptions")

    status, headers, body = fetch(f"http://{web_address}/custom_exception")

    assert (status, headers["Content-Type"]) == (400, "application/json")
    assert json.loads(body) == {"error": "INVALID_ARGUMENTS", "message": "Argument `foo` is required."}


def test_timer(run_services: RunServices, eventually: Callable[..., object]) -> None:
    process = run_services("examples.timer_service")
    eventually(lambda: process.prints("pong"))
