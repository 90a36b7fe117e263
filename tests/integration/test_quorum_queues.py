"""Services in a virtual host whose queues are replicated by default (`--default-queue-type quorum`)."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from nameko.amqp import Retry
from nameko.events import BROADCAST, EventDispatcher, event_handler
from nameko.exceptions import RemoteError
from nameko.rpc import RpcProxy, rpc
from nameko.runners import run_services
from nameko.standalone.rpc import ClusterRpcProxy

pytestmark = pytest.mark.rabbitmq

seen: list[Any] = []


class Front:
    name = "front"
    back = RpcProxy("back")
    dispatch = EventDispatcher()

    @rpc
    def call(self, value: int) -> Any:
        self.dispatch("called", value)
        return self.back.double(value)


class Back:
    name = "back"

    @rpc
    def double(self, value: int) -> int:
        return 2 * value

    @rpc(retry=Retry(attempts=2, backoff=0.1))
    def fail(self) -> None:
        raise ValueError("always")

    @event_handler("front", "called")
    def pooled(self, value: int) -> None:
        seen.append(("pooled", value))

    @event_handler("front", "called", handler_type=BROADCAST, reliable_delivery=False)
    def broadcast(self, value: int) -> None:
        seen.append(("broadcast", value))


def rabbitmqctl(*arguments: str) -> str:
    command = ["rabbitmqctl", "-q", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def quorum_vhost(rabbitmq_uri: str) -> Iterator[str]:
    """A virtual host with quorum queues by default, which RabbitMQ 3.10 can make through `rabbitmqctl` alone."""
    if shutil.which("rabbitmqctl") is None:
        pytest.skip("there is no rabbitmqctl to make a virtual host with quorum queues")
    name = f"nameko_test_{uuid.uuid4().hex[:10]}"
    rabbitmqctl("add_vhost", name, "--default-queue-type", "quorum")
    rabbitmqctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    yield name
    rabbitmqctl("delete_vhost", name)


def queue_types(vhost: str) -> dict[str, str]:
    rows = json.loads(rabbitmqctl("list_queues", "-p", vhost, "name", "type", "--formatter", "json"))
    return {row["name"]: row["type"].removeprefix("rabbit_").removesuffix("_queue") for row in rows}


def test_calls_events_and_retries_over_quorum_queues(rabbitmq_uri: str, quorum_vhost: str, eventually: Any) -> None:
    config = {"AMQP_URI": f"{rabbitmq_uri.rpartition('/')[0]}/{quorum_vhost}"}
    seen.clear()
    with run_services(config, Front, Back), ClusterRpcProxy(config, timeout=20) as cluster:
        assert cluster.front.call(21) == 42
        eventually(lambda: sorted(seen) == [("broadcast", 21), ("pooled", 21)], timeout_s=10)
        with pytest.raises(RemoteError, match="always"):
            cluster.back.fail()
        types = queue_types(quorum_vhost)
    assert types["rpc-back"] == types["rpc-front"] == types["rpc-back.dead"] == "quorum"
    assert types["evt-front-called--back.pooled"] == "quorum"
    assert [kind for name, kind in types.items() if name.startswith("evt-front-called--back.broadcast-")] == ["classic"]
