"""The extensions of nameko-amqp and its plugin keep what nameko asks of every one."""

from __future__ import annotations

from typing import Any

import pytest
from kombu import Exchange, Queue

from nameko.amqp import _plugin
from nameko.amqp.broker import Broker
from nameko.containers import ServiceContainer
from nameko.messaging import Consumer, Publisher
from nameko.testing.plugins import (
    DependencyProviderConformance,
    EntrypointConformance,
    PluginConformance,
    SharedExtensionConformance,
    run_service,
)

EXCHANGE = Exchange("conformance", type="topic")
QUEUE = Queue("conformance", exchange=EXCHANGE, routing_key="#")


class OnBroker:
    """The in-process broker of the test."""

    @pytest.fixture(autouse=True)
    def broker(self, memory_uri: str) -> None:
        self.config = {"AMQP_URI": memory_uri}

    def make_config(self) -> dict[str, Any]:
        return dict(self.config)


class Source:
    name = "source"

    publish = Publisher(exchange=EXCHANGE)


class TestConsumer(OnBroker, EntrypointConformance):
    def make_extension(self) -> Consumer:
        return Consumer(QUEUE)

    def trigger(self, container: ServiceContainer) -> None:
        with run_service(Source, self.config) as source:
            (publisher,) = source.dependencies
            publisher.get_dependency(_Context())("message", routing_key="key")


class _Context:
    """As much of a worker's context as publishing takes."""

    context_data: dict[str, Any] = {}  # noqa: RUF012


class TestPublisher(OnBroker, DependencyProviderConformance):
    def make_extension(self) -> Publisher:
        return Publisher(exchange=EXCHANGE)

    def use(self, dependency: Any) -> None:
        dependency("message", routing_key="key")


class TestBroker(OnBroker, SharedExtensionConformance):
    def make_extension(self) -> Broker:
        return Broker()


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
