"""Containers that are stopped afterwards, a network that can be broken, and RabbitMQ's management API."""

from __future__ import annotations

import os

import pytest

from harness.fixtures import log, network, network_uri, processes, service_process  # noqa: F401
from nameko.testing.rabbit import Client


@pytest.fixture
def manager(rabbitmq_uri: str) -> Client:
    """RabbitMQ's management API; without one, the test is skipped."""
    client = Client(os.environ.get("NAMEKO_TEST_MANAGEMENT_URL", "http://guest:guest@127.0.0.1:15672"))
    try:
        client.get_overview()
    except OSError as exc:
        reason = f"this RabbitMQ has no management API ({exc}): enable rabbitmq_management"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return client
