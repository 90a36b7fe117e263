"""A tracer provider whose spans are kept in memory, and services whose spans they are."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from harness.fixtures import log, processes, service_process  # noqa: F401
from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.web.server import WebServer


class Spans:
    """The spans that have ended so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str, kind: trace.SpanKind | None = None) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name and kind in (None, span.kind)]

    def one(self, name: str, kind: trace.SpanKind | None = None) -> ReadableSpan:
        (span,) = self.named(name, kind)
        return span


@pytest.fixture(scope="session")
def _exporter_and_provider() -> tuple[InMemorySpanExporter, TracerProvider]:
    # One for all tests, as tracers keep the first provider that they see.
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter, provider


@pytest.fixture
def spans(
    _exporter_and_provider: tuple[InMemorySpanExporter, TracerProvider], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Spans]:
    """Spans are recorded, for the length of this test."""
    exporter, provider = _exporter_and_provider
    # The API lets a process set its provider once. Services of other tests are not to be traced.
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    exporter.clear()
    yield Spans(exporter)
    exporter.clear()


@pytest.fixture
def run(
    broker_config: dict[str, Any], start_container: Callable[..., ServiceContainer]
) -> Callable[..., ServiceContainer]:
    """`run(service_cls, **config)` runs a service on the broker of this test, with its web server on any port."""
    settings = {**broker_config, "WEB_SERVER_ADDRESS": "127.0.0.1:0"}
    return lambda service_cls, **config: start_container(service_cls, {**settings, **config})


@pytest.fixture
def get() -> Callable[..., tuple[int, str]]:
    """`get(container, path, **headers)`: status and text of the answer of its web server."""

    def get_from(container: ServiceContainer, path: str, **headers: str) -> tuple[int, str]:
        (server,) = [each for each in container.shared_extensions.values() if isinstance(each, WebServer)]
        assert server.bound_address is not None
        connection = http.client.HTTPConnection(server.bound_address.address, server.bound_address.port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    return get_from


@pytest.fixture
def unused_port() -> int:
    """A port that nobody listens on."""
    with concurrency.socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ids(span: ReadableSpan | None) -> tuple[int, int]:
    """Trace id and span id."""
    assert span is not None
    assert span.context is not None
    return span.context.trace_id, span.context.span_id


def parent_ids(span: ReadableSpan) -> tuple[int, int] | None:
    """Trace id and span id of a span's parent."""
    return None if span.parent is None else (span.parent.trace_id, span.parent.span_id)


@pytest.fixture
def is_parent() -> Callable[[ReadableSpan, ReadableSpan], bool]:
    """`is_parent(a, b)`: whether `b` is a child of `a`."""
    return lambda parent, child: parent_ids(child) == ids(parent)
