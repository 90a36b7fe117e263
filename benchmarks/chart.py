"""The rates and latencies of the peers as a picture, drawn in an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.environments import HERE, python_of
from benchmarks.figures import Results


def draw(results: Results, path: Path) -> None:
    """Write a PNG to `path`.

    :raises subprocess.CalledProcessError: when the drawing fails
    """
    command = [str(python_of("chart")), str(HERE / "draw_chart.py"), str(path)]
    subprocess.run(command, input=json.dumps(results), text=True, check=True)
