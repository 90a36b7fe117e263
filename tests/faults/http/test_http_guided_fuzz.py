"""Row 36 of the fault matrix, guided by coverage: mutations that reach new code of the parser are mutated further."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "lib"
EXECUTIONS = 300_000


@pytest.mark.matrix
@pytest.mark.timeout(3600)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs atheris: pip install atheris")
def test_row_36_guided_by_coverage(tmp_path):
    options = [f"-runs={EXECUTIONS}", "-max_len=1000", "-timeout=10", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-W", "ignore", "-m", "harness.http_atheris", str(tmp_path), *options]
    process = subprocess.run(command, cwd=LIBRARY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.returncode == 0, process.stdout[-5000:]
    assert f"Done {EXECUTIONS} runs" in process.stdout
