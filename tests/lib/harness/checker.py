"""Compares what was confirmed with what was observed: the sets decide whether anything was lost, not the logs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.journal import Log


@dataclass(frozen=True)
class Verdict:
    """What came of a number of messages, each known by an id.

    :param lost: confirmed, but without an effect
    :param duplicated: ids whose effect was observed more than once, with the number of observations beyond the first
    :param phantom: with an effect, though nobody has sent them
    :param unconfirmed: sent, their outcome unknown to whoever sent them
    """

    lost: frozenset[str]
    duplicated: dict[str, int]
    phantom: frozenset[str]
    unconfirmed: frozenset[str]
    confirmed: frozenset[str] = field(repr=False)

    @property
    def duplicates(self) -> int:
        """How many observations there were beyond the first of each."""
        return sum(self.duplicated.values())

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, and nothing came from nowhere."""
        return not self.lost and not self.phantom


def compare(sent: Iterable[str], confirmed: Iterable[str], observed: Iterable[str]) -> Verdict:
    """The verdict on ids.

    :param sent: those that somebody has tried to send
    :param confirmed: those of which they know that they arrived
    :param observed: the effects, in the order and number of their appearance
    """
    sent, confirmed, effects = frozenset(sent), frozenset(confirmed), Counter(observed)
    return Verdict(
        lost=confirmed - effects.keys(),
        duplicated={each: count - 1 for each, count in effects.items() if count > 1},
        phantom=frozenset(effects.keys() - sent),
        unconfirmed=sent - confirmed,
        confirmed=confirmed,
    )


def judge(log: Log) -> Verdict:
    """The verdict on what processes have written to the journal: `sending ID`, `confirmed ID`, and `effect ID`."""
    sent, confirmed, effects = ([line[1] for line in log(word)] for word in ("sending", "confirmed", "effect"))
    return compare(sent, confirmed, effects)
