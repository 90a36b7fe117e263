"""A finding of the migration check."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """What a finding asks for. In this order they are shown."""

    #: A change or a decision: without one, data, calls or security could break.
    ACTION = "action"
    #: Nothing, unless somebody relies on what was.
    NOTE = "note"


@dataclass(frozen=True)
class Difference:
    """Something that is different from nameko 2.14.

    :param text: what differs
    :param remedy: what to do about it
    """

    text: str
    remedy: str
    severity: Severity = Severity.ACTION

    def at(self, file: str, line: int = 0) -> Finding:
        """This difference as it is found at a place."""
        return Finding(self.severity, file, line, self.text, self.remedy)


def note(text: str, remedy: str) -> Difference:
    """A difference that needs no action."""
    return Difference(text, remedy, Severity.NOTE)


@dataclass(frozen=True, order=True)
class Finding:
    """A difference, and where it shows.

    :param file: where, relative to the current directory when it is below that; or a word for what is no file
    :param line: the line there; 0 for none
    """

    severity: Severity
    file: str
    line: int
    difference: str
    remedy: str

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}" if self.line else self.file


def shown_path(path: str) -> str:
    """`path` as it is shown: from the current directory on, when it is in there."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative
