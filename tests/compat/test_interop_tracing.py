"""A trace that passes through a service of an earlier version: it ignores the headers, and sends them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import propagate, trace
from opentelemetry.context import attach, detach

from nameko.containers import ServiceContainer
from nameko.rpc import rpc

pytestmark = [pytest.mark.interop, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

CARRIER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "vendor=1"}


class Traced:
    name = "new_a"  # one that the peers know

    @rpc
    def chain(self, path: list[str]) -> list[Any]:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return [carrier]


@pytest.fixture(scope="module")
def network(old: Any, make_network: Callable[[], Any]) -> Any:
    network = make_network()
    network.start(old, "Peer", "old_a")
    network.wait_for_consumers("rpc-old_a")
    return network


@pytest.fixture
def traced(network: Any) -> Iterator[list[Any]]:
    """The headers that came to the traced service, and it running."""
    seen: list[Any] = []
    container = ServiceContainer(Traced, {"AMQP_URI": network.uri})
    with container.observers.attached("test", worker_started=lambda worker_ctx: seen.append(worker_ctx.headers)):
        container.start()
        yield seen
        container.kill()


@pytest.fixture
def caller() -> Iterator[None]:
    """What this test calls belongs to the span of `CARRIER`."""
    token = attach(propagate.extract(CARRIER))
    assert trace.get_current_span().get_span_context().is_valid
    yield
    detach(token)


@pytest.mark.usefixtures("caller")
def test_a_trace_goes_on_behind_an_old_service(network: Any, traced: list[Any]) -> None:
    (name, _, _), found = network.ask("old_a", "chain", ["new_a"])

    assert name == "old_a"
    assert found == CARRIER
    (headers,) = traced
    assert headers["nameko.traceparent"] == CARRIER["traceparent"]
    assert "traceparent" not in headers
