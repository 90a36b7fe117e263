"""What a test needs and a machine may not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test that runs, and say why; in CI, where nothing may be missing, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}: in CI, where there must be one, that is a failure", pytrace=False)
    pytest.skip(reason)
