"""Containers that hold a `Broker`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nameko.amqp import Broker
from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider


class BrokerHolder(DependencyProvider):
    """What a service needs to have a `Broker`."""

    broker = Broker()


class Service:
    name = "service"
    holder = BrokerHolder()


@pytest.fixture
def make_broker(start_container: Callable[..., ServiceContainer]) -> Callable[..., Broker]:
    """`make_broker(uri, **config)`: the `Broker` of a started container of its own."""

    def make(uri: str, **config: Any) -> Broker:
        container = start_container(Service, {"AMQP_URI": uri, **config})
        return next(iter(container.dependencies)).broker  # type: ignore[no-any-return]

    return make
