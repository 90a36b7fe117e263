"""`nameko test`: pytest in a monkey patched process."""

from __future__ import annotations

from collections.abc import Sequence

from nameko import concurrency
from nameko.exceptions import CommandError


def main(arguments: Sequence[str]) -> int:
    """Run pytest with `arguments`.

    :returns: pytest's exit status
    :raises CommandError: when pytest is not installed
    """
    concurrency.monkey_patch()
    try:
        import pytest
    except ModuleNotFoundError as exc:
        if exc.name != "pytest":
            raise
        raise CommandError("pytest is not installed: pip install pytest") from exc
    return int(pytest.main(list(arguments)))
