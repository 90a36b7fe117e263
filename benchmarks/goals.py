"""The goals, each a ratio within one run, and how far it is reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.figures import OLD, OURS, Results

_FASTSTREAM, _LOOP = "faststream", "guaranteed loop"
_RPC, _SEQUENTIAL, _NESTED = "RPC, 50 in flight", "RPC, one after the other", "nested RPC, 50 in flight"
_EVENTS, _MANY_EVENTS = "events, one dispatcher", "events, 50 dispatchers"


@dataclass
class Figures:
    """All that was measured; empty where it was not."""

    peers: Results = field(default_factory=dict)
    starting: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    in_process: Mapping[str, float] = field(default_factory=dict)
    commands: Mapping[str, float] = field(default_factory=dict)
    growth: Mapping[str, Mapping[int, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Goal:
    """One goal.

    :param value: of all figures; raises KeyError where they were not measured
    :param bound: the least value, or the greatest when `at_most`
    """

    name: str
    value: Callable[[Figures], float]
    bound: float
    at_most: bool = False
    unit: str = " x"

    def reached(self, value: float) -> bool:
        """Whether `value` will do."""
        return value <= self.bound if self.at_most else value >= self.bound


def _rate(case: str, peer: str) -> Callable[[Figures], float]:
    return lambda all_: all_.peers[case][OURS]["rate"] / all_.peers[case][peer]["rate"]


def _latency(peer: str) -> Callable[[Figures], float]:
    return lambda all_: all_.peers[_SEQUENTIAL][OURS]["median_us"] / all_.peers[_SEQUENTIAL][peer]["median_us"]


def _handled(all_: Figures) -> float:
    ours = all_.peers[_MANY_EVENTS][OURS]
    return ours["handled_rate"] / ours["rate"]


def _start(name: str) -> Callable[[Figures], float]:
    return lambda all_: all_.starting[OURS][name] / all_.starting[OLD][name]


def _command(name: str) -> Callable[[Figures], float]:
    return lambda all_: all_.commands[name] / all_.commands["nameko 2.14.1 --help"]


def _in_process(all_: Figures) -> float:
    # 4,000 calls a second or twice what RabbitMQ gives, whichever is lower.
    return all_.in_process["calls_s"] / min(4_000, 2 * all_.peers[_RPC][OURS]["rate"])


def _growth(what: str) -> Callable[[Figures], float]:
    def ratio(all_: Figures) -> float:
        costs = list(all_.growth[what].values())
        return max(costs[1:]) / costs[0]

    return ratio


def _growth_per_byte(all_: Figures) -> float:
    costs = [cost / size for size, cost in all_.growth["sizes"].items()]
    return max(costs[1:]) / costs[0]


GOALS = [
    Goal("RPC, 50 in flight: rate over nameko 2.14.1", _rate(_RPC, OLD), 5),
    Goal("RPC, 50 in flight: rate over FastStream", _rate(_RPC, _FASTSTREAM), 6),
    Goal("RPC, 50 in flight: rate over the guaranteed loop", _rate(_RPC, _LOOP), 0.7),
    Goal("RPC, one after the other: latency over nameko 2.14.1", _latency(OLD), 0.5, at_most=True),
    Goal("RPC, one after the other: latency over FastStream", _latency(_FASTSTREAM), 0.55, at_most=True),
    Goal("RPC, one after the other: latency over the guaranteed loop", _latency(_LOOP), 1.25, at_most=True),
    Goal("nested RPC, 50 in flight: rate over nameko 2.14.1", _rate(_NESTED, OLD), 4.5),
    Goal("events, one dispatcher: rate over nameko 2.14.1", _rate(_EVENTS, OLD), 1.5),
    Goal("events, one dispatcher: rate over FastStream, persistent", _rate(_EVENTS, _FASTSTREAM), 1.2),
    Goal("events, 50 dispatchers: rate over nameko 2.14.1", _rate(_MANY_EVENTS, OLD), 6),
    Goal("events, 50 dispatchers: handled over dispatched", _handled, 0.9),
    Goal("nameko run to first answer over nameko 2.14.1", _start("answer_s"), 0.8, at_most=True),
    Goal("memory of an idle service over nameko 2.14.1", _start("idle_mib"), 1.0, at_most=True),
    Goal("in-process RPC over 4,000/s or 2 x RabbitMQ", _in_process, 1.0),
    Goal("cost of a call, 50 services in a process over 1", _growth("services"), 1.1, at_most=True),
    Goal("cost of an event, up to 10,000 waiting over 1", _growth("waiting"), 1.1, at_most=True),
    Goal("cost per byte, up to 10 kB over 100 B", _growth_per_byte, 1.1, at_most=True),
    Goal("CPU of nameko --help over 2.14.1's", _command("nameko --help"), 0.5, at_most=True),
    Goal("CPU of nameko plugins over 2.14.1's --help", _command("nameko plugins"), 0.5, at_most=True),
    Goal("a hook that nobody implements", lambda all_: all_.in_process["unused_hook_us"], 5, True, " us"),
    Goal("one observer", lambda all_: all_.in_process["observer_us"], 5, True, " us"),
]


def scores(figures: Figures) -> list[tuple[Goal, float]]:
    """The goals that were measured, with their values."""
    measured: list[tuple[Goal, float]] = []
    for goal in GOALS:
        try:
            measured.append((goal, goal.value(figures)))
        except KeyError:
            continue
    return measured


def table(figures: Figures) -> str:
    """Value and goal, line by line."""
    lines = ["", f"{'':60} {'measured':>11} {'goal':>11}"]
    for goal, value in scores(figures):
        bound = f"{'<=' if goal.at_most else '>='} {goal.bound:g}{goal.unit}"
        lines.append(f"{goal.name:60} {value:8.2f}{goal.unit:3} {bound:>11}  {'' if goal.reached(value) else 'missed'}")
    return "\n".join(line.rstrip() for line in lines)


def growth_table(growth: Mapping[str, Mapping[int, float]]) -> str:
    """The costs by what grows."""
    titles: dict[str, Any] = {
        "services": "us of CPU a call in the service's process, by services in it",
        "waiting": "us of CPU an event, by events waiting",
        "sizes": "us of CPU a call in client and service, by bytes of its argument",
    }
    lines = [""]
    for what, costs in growth.items():
        lines.append(f"{titles[what]}: " + ", ".join(f"{key:,}: {cost:.0f}" for key, cost in costs.items()))
    return "\n".join(lines)
