"""Unique ids, made by the thousand: random UUIDs (RFC 9562, version 4) in their usual text form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import iter_unpack

# So many are drawn from the operating system at once.
_BATCH = 256


class _UniqueIds:
    # Threads may share it: taking the next one from the iterator is a single step.

    def __init__(self) -> None:
        self._random: Iterator[tuple[bytes]] = iter(())
        self._follows_forks = False

    def next(self) -> str:
        drawn = next(self._random, None)
        while drawn is None:
            drawn = next(self._draw(), None)
        data = drawn[0]
        text = data.hex()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[data[8] >> 6]}{text[17:20]}-{text[20:]}"

    def _draw(self) -> Iterator[tuple[bytes]]:
        if not self._follows_forks:
            self._follows_forks = True
            os.register_at_fork(after_in_child=self._forget)
        self._random = iter_unpack("16s", os.urandom(16 * _BATCH))
        return self._random

    def _forget(self) -> None:
        self._random = iter(())  # the parent's: two processes must not make the same ids


new_unique_id = _UniqueIds().next
