"""What is known about a call."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest

from nameko.containers import WorkerContext, new_call_id
from nameko.extensions import Entrypoint
from nameko.testing.utils import DummyProvider


class Service:
    name = "service"

    @Entrypoint.decorator
    def method(self) -> None:
        pass


@pytest.fixture
def make_context(container_factory) -> Any:
    def make(data: Any = None, **config: Any) -> WorkerContext:
        container = container_factory(Service, config)
        return WorkerContext(container, Service(), next(iter(container.entrypoints)), data=data)

    return make


def test_the_attributes(container_factory):
    container = container_factory(Service, {"key": "value"})
    service, entrypoint = Service(), DummyProvider("method")
    context = WorkerContext(container, service, entrypoint, (1,), {"a": 2}, {"user_id": 3})
    assert context.container is container
    assert context.config is container.config
    assert context.service is service
    assert context.service_name == "service"
    assert context.entrypoint is entrypoint
    assert context.args == (1,)
    assert context.kwargs == {"a": 2}
    assert context.data == {"user_id": 3}
    assert repr(context).startswith("<WorkerContext [service.method] at 0x")
    empty = WorkerContext(container, service, entrypoint)
    assert (empty.args, empty.kwargs, empty.data) == ((), {}, {})


def test_the_data_is_the_workers_own(make_context):
    data = {"call_id_stack": ["a"], "key": 1}
    context = make_context(data)
    context.data["key"] = 2
    assert data == {"call_id_stack": ["a"], "key": 1}
    assert context.data == {"key": 2}


def test_a_call_from_outside(make_context):
    context = make_context()
    assert re.fullmatch(r"service\.method\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", context.call_id)
    assert context.call_id == context.call_id
    assert context.call_id_stack == [context.call_id]
    assert context.origin_call_id is None
    assert context.immediate_parent_call_id is None
    assert context.context_data == {"call_id_stack": [context.call_id]}


def test_a_call_from_another_service(make_context):
    context = make_context({"call_id_stack": ["a.b.0", "c.d.1"], "language": "en"})
    assert context.call_id_stack == ["a.b.0", "c.d.1", context.call_id]
    assert context.origin_call_id == "a.b.0"
    assert context.immediate_parent_call_id == "c.d.1"
    assert context.context_data == {"language": "en", "call_id_stack": context.call_id_stack}


def test_what_the_worker_adds_to_its_data_travels_on(make_context):
    context = make_context()
    context.data["user_id"] = 5
    assert context.context_data["user_id"] == 5


@pytest.mark.parametrize(
    ("tracked", "stack"), [(0, []), (1, ["c"]), (2, ["b", "c"]), (3, ["a", "b", "c"]), (10, ["a", "b", "c"])]
)
def test_how_many_parents_are_tracked(make_context, tracked, stack):
    context = make_context({"call_id_stack": ["a", "b", "c"]}, parent_calls_tracked=tracked)
    assert context.call_id_stack == [*stack, context.call_id]
    assert context.origin_call_id == (stack[0] if stack else None)
    assert context.immediate_parent_call_id == (stack[-1] if stack else None)


def test_call_ids_differ(make_context):
    assert new_call_id() != new_call_id()
    assert make_context().call_id != make_context().call_id


def test_public_paths():
    assert WorkerContext.__module__ == "nameko.containers"
    assert new_call_id.__module__ == "nameko.containers"


def test_ids_are_random_uuids_and_differ_also_between_processes_that_were_forked():
    program = """
import os, uuid
from nameko.containers import new_call_id

ids = [new_call_id() for _ in range(1000)]
assert all(str(uuid.UUID(each)) == each and uuid.UUID(each).version == 4 for each in ids)
assert all(uuid.UUID(each).variant == uuid.RFC_4122 for each in ids)
child = os.fork()
more = [new_call_id() for _ in range(300)]
if child:
    assert os.waitpid(child, 0)[1] == 0  # one after the other, so that their lines do not mix
    more += ids
print("\\n".join(more))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=True)
    ids = done.stdout.split()
    assert len(ids) == len(set(ids)) == 1600
