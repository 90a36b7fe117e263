"""The context data of a worker: what is changed in it travels with the calls that the worker makes."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from nameko.containers import ServiceContainer, WorkerContext
from nameko.testing.utils import DummyProvider

CALL_IDS = ["first.call.1"]


class Service:
    name = "service"


@pytest.fixture
def worker_ctx() -> WorkerContext:
    entrypoint: Any = DummyProvider("method")
    data = {"language": "en", "call_id_stack": CALL_IDS}
    return WorkerContext(ServiceContainer(Service, {}), Service(), entrypoint, data=data)


def test_it_has_the_data_and_the_call_id_stack(worker_ctx: WorkerContext) -> None:
    assert worker_ctx.context_data == {"language": "en", "call_id_stack": [*CALL_IDS, worker_ctx.call_id]}
    assert worker_ctx.data == {"language": "en"}


def replace(context_data: dict[str, Any]) -> None:
    context_data |= {"user": 1}
    context_data.update(language="fr")


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], dict[str, Any]]] = [
    (lambda data: data.__setitem__("user", 1), {"language": "en", "user": 1}),
    (lambda data: data.__delitem__("language"), {}),
    (lambda data: data.update({"user": 1}, language="fr"), {"language": "fr", "user": 1}),
    (lambda data: data.setdefault("user", 1), {"language": "en", "user": 1}),
    (lambda data: data.setdefault("language", "fr"), {"language": "en"}),
    (lambda data: data.pop("language"), {}),
    (lambda data: data.pop("nothing", None), {"language": "en"}),
    (lambda data: data.clear(), {}),
    (replace, {"language": "fr", "user": 1}),
]


@pytest.mark.parametrize(("change", "expected"), CHANGES)
def test_a_change_reaches_the_worker(
    worker_ctx: WorkerContext, change: Callable[[dict[str, Any]], Any], expected: dict[str, Any]
) -> None:
    context_data = worker_ctx.context_data

    change(context_data)

    assert worker_ctx.data == expected
    assert worker_ctx.context_data == {**expected, "call_id_stack": [*CALL_IDS, worker_ctx.call_id]}
    assert {key: value for key, value in context_data.items() if key != "call_id_stack"} == expected


def test_the_call_id_stack_is_not_for_the_taking(worker_ctx: WorkerContext) -> None:
    worker_ctx.context_data["call_id_stack"] = []
    del worker_ctx.context_data["call_id_stack"]

    assert worker_ctx.context_data["call_id_stack"] == [*CALL_IDS, worker_ctx.call_id]
    assert worker_ctx.data == {"language": "en"}


@pytest.mark.parametrize("duplicate", [dict, copy.copy, copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))])
def test_a_copy_is_nobodys(worker_ctx: WorkerContext, duplicate: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    context_data = worker_ctx.context_data

    copied = duplicate(context_data)
    assert copied == context_data
    copied["user"] = 1

    assert worker_ctx.data == {"language": "en"}


def test_what_is_not_there_cannot_be_removed(worker_ctx: WorkerContext) -> None:
    with pytest.raises(KeyError):
        del worker_ctx.context_data["nothing"]
