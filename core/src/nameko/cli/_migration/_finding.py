"""A finding of the migration check."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Finding:
    """Something that is different from nameko 2.14.

    :param file: where, relative to the current directory when it is below that; or a word for what is no file
    :param line: the line there; 0 for none
    :param difference: what differs
    :param remedy: what to do about it
    """

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
