"""A dependency that writes to the journal whether its container is ready, each time that this changes."""

from __future__ import annotations

import re

from harness.journal import log
from nameko import concurrency
from nameko.extensions import DependencyProvider

_INTERVAL_S = 0.1
# How long something has lasted is no change.
_NUMBER = re.compile(r"\d+")


class Readiness(DependencyProvider):
    """`ready` or `unready`, then the reasons with underscores for blanks."""

    def start(self) -> None:
        """Begin to look."""
        self.container.spawn_managed_thread(self._look, identifier="readiness")

    def _look(self) -> None:
        before: list[str] | None = None
        while True:
            reasons = self.container.not_ready_reasons()
            kinds = [_NUMBER.sub("", reason) for reason in reasons]
            if kinds != before:
                log("unready" if reasons else "ready", *(reason.replace(" ", "_") for reason in reasons))
            before = kinds
            concurrency.sleep(_INTERVAL_S)
