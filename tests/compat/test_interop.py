"""Services of this framework and of earlier versions on one broker, none of which can tell who is who.

Each peer runs the same module. What earlier versions do among themselves says what has to come out between any two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

pytestmark = [pytest.mark.interop, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

Eventually = Callable[..., Any]

OLD = ("old_a", "old_b")
PEERS = (*OLD, "new_a", "new_b")
#: Across, each way, and among ourselves; the old among themselves are what these are compared with.
PAIRS = [pair for pair in product(PEERS, PEERS) if pair[0] != pair[1] and not set(pair) <= set(OLD)]


@pytest.fixture(scope="module")
def network(old: Any, ours: Any, make_network: Callable[[], Any]) -> Any:
    """Two peers of each framework."""
    network = make_network()
    for name in PEERS:
        network.start(old if name in OLD else ours, "Peer", name)
    for name in PEERS:
        network.wait_for_consumers(f"rpc-{name}")
        for source in ("old_a", "new_a"):
            network.wait_for_consumers(f"evt-{source}-handled_by_peers--{name}.handle")
    return network


CALLS = {
    "echo": ("echo", [1, 2.5, None, True, "Schlüssel", {"a": [1, {"b": None}]}], {"keyword": "x"}),
    "no arguments": ("echo", [], {}),
    "known exception": ("fail", ["known"], {}),
    "unregistered exception": ("fail", ["unregistered"], {}),
    "built-in exception": ("fail", ["value"], {}),
    "exception without arguments": ("fail", ["empty"], {}),
    "unserializable result": ("unserializable", [], {}),
    "unknown method": ("no_such_method", [], {}),
}


@pytest.mark.parametrize("scenario", CALLS)
def test_call_between_services_has_the_same_outcome_everywhere(network: Any, scenario: str) -> None:
    method, args, kwargs = CALLS[scenario]

    def ask(caller: str, callee: str) -> Any:
        return network.ask(caller, "call", callee, method, args, kwargs)

    expected = ask(*OLD)
    assert {pair: ask(*pair) for pair in PAIRS} == dict.fromkeys(PAIRS, expected)


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_wrong_arguments_are_refused_everywhere(network: Any, caller: str, callee: str) -> None:
    # What the exception says is Python's own text, and differs from one version of Python to another.
    error = network.ask(caller, "call", callee, "one_argument", [1, 2])["error"]
    assert (error["type"], error["module"]) == ("IncorrectSignature", "nameko.exceptions")


@pytest.mark.parametrize("caller", PEERS)
def test_unknown_service_is_unknown_to_all(network: Any, caller: str) -> None:
    error = network.ask(caller, "call", "nobody", "echo")["error"]
    assert (error["type"], error["str"]) == ("UnknownService", "Unknown service `nobody`")


@pytest.mark.parametrize(("caller", "callee"), PAIRS)
def test_asynchronous_calls_are_answered_in_any_order(network: Any, caller: str, callee: str) -> None:
    values = list(range(10))
    answers = network.ask(caller, "call_many", callee, values)
    assert answers == [[[value], {}] for value in reversed(values)]


def test_standalone_proxies_have_the_same_outcomes(network: Any, old: Any, ours: Any) -> None:
    def outcomes(framework: Any, callee: str) -> dict[str, Any]:
        calls = [[callee, *call] for call in CALLS.values()]
        return dict(zip(CALLS, network.do(framework, calls=calls), strict=True))

    expected = outcomes(old, "old_a")
    assert outcomes(ours, "old_a") == expected
    assert outcomes(old, "new_a") == expected
    assert outcomes(ours, "new_a") == expected


def test_standalone_asynchronous_calls(network: Any, old: Any, ours: Any) -> None:
    pending = [[PEERS[number % len(PEERS)], number] for number in range(20)]
    expected = [[[number], {}] for number in reversed(range(20))]
    assert network.do(old, calls=[], **{"async": pending}) == expected
    assert network.do(ours, calls=[], **{"async": pending}) == expected


@pytest.mark.parametrize("client", ["old", "ours"])
@pytest.mark.parametrize(
    "path", [["old_a", "new_a", "old_b"], ["new_a", "old_a", "new_b"], ["new_a", "new_b", "old_a"]]
)
def test_context_and_call_ids_travel_along_a_chain(
    network: Any, client: str, path: list[str], request: pytest.FixtureRequest
) -> None:
    framework = request.getfixturevalue(client)
    context = {"language": "de", "user_id": 7, "auth_token": "t"}
    call = [path[0], "chain", [path[1:]], {}]
    [outcome] = network.do(framework, calls=[call], context_data=context)
    seen = outcome["result"]
    assert [name for name, _, _ in seen] == path
    for _, _, data in seen:
        assert data == context
    stacks = [stack for _, stack, _ in seen]
    for depth, (name, stack) in enumerate(zip(path, stacks, strict=True)):
        assert len(stack) == depth + 2  # the client, the services before, this one
        assert stack[0].startswith("standalone_rpc_")
        assert stack[-1].startswith(f"{name}.chain.")
        assert stack[:-1] == (stacks[depth - 1] if depth else [stack[0]])


def test_events_are_handled_by_services_of_any_framework(network: Any, eventually: Eventually) -> None:
    for source in ("old_a", "new_a"):
        first = 100 if source == "old_a" else 200
        network.ask(source, "tell", "handled_by_peers", list(range(first, first + 10)))
    expected = Counter((name, str(first + n)) for name in PEERS for first in (100, 200) for n in range(10))
    eventually(lambda: Counter((name, number) for _, name, number, _ in network.log("handled")) == expected, 20)
    for _, _, number, parent in network.log("handled"):
        assert parent.startswith("old_a.tell." if number.startswith("1") else "new_a.tell.")


QUEUES = [
    "rpc-listener",
    "orders",
    *(f"evt-{source}-sold" for source in ("old_a", "new_a")),
    *(f"evt-{source}-sold--listener.pool" for source in ("old_a", "new_a")),
    "evt-old_a-brief--listener.brief",
]


@pytest.fixture(scope="module", params=["old first", "ours first"])
def mixed(request: pytest.FixtureRequest, old: Any, ours: Any, make_network: Callable[[], Any]) -> Any:
    """Two processes of each framework that host the same service: they share its queues, whoever declared them."""
    network = make_network()
    order = [old, ours, ours, old] if request.param == "old first" else [ours, old, old, ours]
    for count, framework in enumerate(order, start=1):
        network.start(framework, "Listener")
        for queue in QUEUES:
            network.wait_for_consumers(queue, count)  # refused with 406, it would end
    network.check_alive()
    return network


def handled(network: Any, mode: str) -> list[tuple[str, str]]:
    return [(pid, number) for _, pid, number in network.log(mode)]


@pytest.mark.parametrize("dispatcher", ["old", "ours"])
@pytest.mark.parametrize("source", ["old_a", "new_a"])
def test_pools_are_shared_by_all_frameworks(
    mixed: Any, dispatcher: str, source: str, request: pytest.FixtureRequest, eventually: Eventually
) -> None:
    framework = request.getfixturevalue(dispatcher)
    before = {mode: len(handled(mixed, mode)) for mode in ("pool", "singleton", "broadcast")}
    numbers = [str(number) for number in range(40)]
    mixed.do(framework, dispatch=source, event_type="sold", numbers=[int(number) for number in numbers])

    def news(mode: str) -> list[tuple[str, str]]:
        return handled(mixed, mode)[before[mode] :]

    eventually(lambda: len(news("pool")) + len(news("singleton")) + len(news("broadcast")) >= 40 * 6, 20)
    for mode in ("pool", "singleton"):
        assert Counter(number for _, number in news(mode)) == Counter(numbers)
        assert len({pid for pid, _ in news(mode)}) == 4  # shared, not merely handled
    pids = {pid for pid, _ in news("broadcast")}
    assert len(pids) == 4
    assert Counter(news("broadcast")) == Counter(product(pids, numbers))


@pytest.mark.parametrize("client", ["old", "ours"])
def test_calls_go_round_all_instances(mixed: Any, client: str, request: pytest.FixtureRequest) -> None:
    framework = request.getfixturevalue(client)
    outcomes = mixed.do(framework, calls=[["listener", "who", [], {}]] * 20)
    pids = Counter(outcome["result"] for outcome in outcomes)
    assert sorted(pids.values()) == [5, 5, 5, 5]


def test_messages_are_consumed_by_services_of_any_framework(
    mixed: Any, old: Any, ours: Any, eventually: Eventually
) -> None:
    publishers = {"old_b": old, "new_b": ours}
    for name, framework in publishers.items():
        mixed.start(framework, "Peer", name)
        mixed.wait_for_consumers(f"rpc-{name}")
    for first, name in zip((0, 100), publishers, strict=True):
        mixed.ask(name, "place", list(range(first, first + 20)))
    expected = Counter(str(first + number) for first in (0, 100) for number in range(20))
    eventually(lambda: Counter(number for _, number in handled(mixed, "order")) == expected, 20)
    assert len({pid for pid, _ in handled(mixed, "order")}) == 4
