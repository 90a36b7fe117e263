"""Retries of `@rpc`: what the caller gets, and until when."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from nameko import concurrency
from nameko.amqp import Retry
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError, RemoteError
from nameko.rpc import rpc
from nameko.standalone.rpc import ClusterRpcProxy

Eventually = Callable[..., Any]
Start = Callable[..., ServiceContainer]


def service(calls: list[Any], outcome: Callable[[], Any], **options: Any) -> type:
    """A service whose method notes its arguments and then does as `outcome` says."""

    class Shop:
        name = "shop"

        @rpc(**options)
        def charge(self, amount: int) -> Any:
            calls.append(amount)
            return outcome()

        @rpc
        def other(self) -> str:
            return "other"

    return Shop


def fail() -> None:
    raise ValueError("no")


def counters(container: ServiceContainer) -> Any:
    return next(each.broker.counters for each in container.subextensions if hasattr(each, "broker"))


def depth(raw: Any, queue: str) -> int:
    return int(raw.channel.queue_declare(queue, passive=True).message_count)


def test_the_caller_gets_the_result_of_the_attempt_that_succeeds(start: Start, cluster: Any, raw: Any) -> None:
    calls: list[Any] = []
    start(service(calls, lambda: "done" if len(calls) == 3 else fail(), retry=Retry(backoff=0.05)))
    assert cluster.shop.charge(5) == "done"
    assert calls == [5, 5, 5]
    assert depth(raw, "rpc-shop.dead") == depth(raw, "rpc-shop.charge.retry.50") == 0


def test_after_the_last_attempt_the_caller_gets_the_error_and_the_request_is_parked(
    start: Start, cluster: Any, raw: Any
) -> None:
    calls: list[Any] = []
    container = start(service(calls, fail, retry=Retry(attempts=3, backoff=0.05)))
    with pytest.raises(RemoteError, match="ValueError no"):
        cluster.shop.charge(5)
    assert calls == [5, 5, 5]
    parked = raw.channel.basic_get("rpc-shop.dead", no_ack=True)
    headers = parked.properties["application_headers"]
    assert json.loads(parked.body) == {"args": [5], "kwargs": {}}
    assert headers["nameko-dead-return-exchange"] == "nameko-rpc"
    assert headers["nameko-dead-return-routing-key"] == "shop.charge"
    assert headers["nameko-dead-queue"] == "rpc-shop"
    assert headers["nameko-dead-attempts"] == 3
    container.stop()
    assert depth(raw, "rpc-shop") == 0


def test_an_expected_error_is_for_the_caller_at_once(start: Start, cluster: Any) -> None:
    calls: list[Any] = []
    start(service(calls, fail, retry=Retry(), expected_exceptions=ValueError))
    with pytest.raises(RemoteError):
        cluster.shop.charge(5)
    assert calls == [5]


def test_arguments_that_do_not_fit_are_not_tried_again(start: Start, cluster: Any) -> None:
    container = start(service([], fail, retry=Retry()))
    with pytest.raises(Exception, match="missing"):
        cluster.shop.charge()
    assert counters(container)["messages_retried"] == 0


def test_others_are_served_while_a_request_waits(start: Start, cluster: Any) -> None:
    calls: list[Any] = []
    start(service(calls, fail, retry=Retry(backoff=30)), max_workers=1, PREFETCH_COUNT=1)
    cluster.shop.charge.call_async(1)
    cluster.shop.charge.call_async(2)
    assert cluster.shop.other() == "other"
    assert calls == [1, 2]


def test_there_is_no_attempt_after_the_callers_deadline(
    start: Start, broker_config: dict[str, Any], raw: Any, eventually: Eventually
) -> None:
    calls: list[Any] = []
    start(service(calls, fail, retry=Retry(backoff=[0.1, 30])))
    with ClusterRpcProxy(broker_config, timeout=3) as cluster:
        started = time.monotonic()
        with pytest.raises(RemoteError, match="ValueError"):  # now, rather than a timeout
            cluster.shop.charge(5)
        assert time.monotonic() - started < 1.5
    assert calls == [5, 5]
    parked = raw.channel.basic_get("rpc-shop.dead", no_ack=True)
    assert parked.properties["application_headers"]["nameko-dead-reason"] == "deadline"


def test_a_request_whose_caller_has_given_up_meanwhile_is_not_run(
    start: Start, broker_config: dict[str, Any], raw: Any, eventually: Eventually
) -> None:
    calls: list[Any] = []
    first = start(service(calls, fail, retry=Retry(backoff=0.3)))
    with ClusterRpcProxy(broker_config, timeout=2) as cluster:
        call = cluster.shop.charge.call_async(5)
        eventually(lambda: counters(first)["messages_retried"] == 1)
        first.kill()
        with pytest.raises(Exception, match="no reply"):
            call.result()
    eventually(lambda: depth(raw, "rpc-shop") == 1)
    second = start(service(calls, fail, retry=Retry(backoff=0.3)))
    eventually(lambda: counters(second)["messages_expired"] == 1)
    assert calls == [5]


def test_a_request_comes_back_as_nameko_2_knows_it(
    start: Start, cluster: Any, raw: Any, eventually: Eventually
) -> None:
    container = start(service([], fail, retry=Retry(backoff=0.2)))
    call = cluster.shop.charge.call_async(5)
    eventually(lambda: counters(container)["messages_retried"] == 1)
    container.kill()
    eventually(lambda: depth(raw, "rpc-shop") == 1)
    message = raw.channel.basic_get("rpc-shop", no_ack=True)
    assert message.delivery_info["exchange"] == "nameko-rpc"
    assert message.delivery_info["routing_key"] == "shop.charge"
    assert json.loads(message.body) == {"args": [5], "kwargs": {}}
    reply = {key: message.properties[key] for key in ("correlation_id",)}
    raw.send('{"result": "from elsewhere", "error": null}', message.properties["reply_to"], **reply)
    assert call.result() == "from elsewhere"


def test_the_context_stays_what_it_was(start: Start, raw: Any) -> None:
    contexts: list[Any] = []
    from nameko.contextdata import Language  # what every service may read
    from nameko.extensions import DependencyProvider

    class Context(DependencyProvider):
        def get_dependency(self, worker_ctx: Any) -> Any:
            return dict(worker_ctx.data)

    class Shop:
        name = "shop"
        context = Context()
        language = Language()

        @rpc(retry=Retry(3, 0.02))
        def charge(self) -> None:
            contexts.append((self.language, sorted(self.context)))
            fail()

    start(Shop)
    raw.bind()
    raw.send('{"args": [], "kwargs": {}}', "shop.charge", reply_to=raw.reply_to, headers={"nameko.language": "fr"})
    assert json.loads(raw.receive().body)["error"]["exc_type"] == "ValueError"
    assert len(contexts) == 3
    assert {each[0] for each in contexts} == {"fr"}
    assert contexts[1] == contexts[2] == contexts[0]


def test_a_broker_that_refuses_the_wait_is_told_to_the_caller(start: Start, cluster: Any, raw: Any) -> None:
    calls: list[Any] = []
    container = start(service(calls, fail, retry=Retry(backoff=0.05)))
    raw.channel.queue_declare("rpc-shop.charge.retry.50", durable=True, auto_delete=False)
    with pytest.raises(RemoteError, match="ValueError"):
        cluster.shop.charge(5)
    assert calls == [5]
    assert counters(container)["retries_failed"] == 1


def test_something_else_than_a_retry_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"retry takes a nameko\.amqp\.Retry, not 3"):
        rpc(retry=3)(fail)


def test_a_timeout_of_the_method_is_tried_again_where_it_is_named(start: Start, cluster: Any) -> None:
    calls: list[Any] = []

    def time_out() -> str:
        if len(calls) == 1:
            raise concurrency.Timeout
        return "done"

    start(service(calls, time_out, retry=Retry(backoff=0.02, on=(Exception, concurrency.Timeout))))
    assert cluster.shop.charge(5) == "done"
