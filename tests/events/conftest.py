"""Containers that are stopped afterwards, a network that can be broken, and RabbitMQ's management API."""

from __future__ import annotations

import pytest

from harness.fixtures import log, network, network_uri, processes, service_process  # noqa: F401
from harness.management import MANAGEMENT_URL, Management
from nameko.testing.rabbit import Client


@pytest.fixture
def manager(rabbitmq_uri: str) -> Client:
    """RabbitMQ's management API; without one, the test is skipped."""
    Management().require()
    return Client(MANAGEMENT_URL)
