"""A file that several processes write lines to: what they really did, whatever became of them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

#: Where processes under test find the path of the journal.
PATH_VARIABLE = "NAMEKO_TEST_JOURNAL"


class Log:
    """The lines, as the test reads them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def __call__(self, *starting_with: object) -> list[list[str]]:
        """The lines, each split at blanks, of those that start with the given words."""
        words = [str(word) for word in starting_with]
        lines = [line.split() for line in self.path.read_text().splitlines()]
        return [line for line in lines if line[: len(words)] == words]


def log(*words: object) -> None:
    """Add a line, the process id at its end; for a process that was started with the path in its environment."""
    # One write to a file opened for appending is whole, whichever process does it.
    os.write(_descriptor(), (" ".join(map(str, (*words, os.getpid()))) + "\n").encode())


def logged(*starting_with: object) -> list[list[str]]:
    """The lines that start with the given words, for a process that has to know what others have done."""
    return Log(Path(os.environ[PATH_VARIABLE]))(*starting_with)


@cache
def _descriptor() -> int:
    return os.open(os.environ[PATH_VARIABLE], os.O_WRONLY | os.O_APPEND)
