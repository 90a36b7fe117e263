"""A virtual environment for each peer, built from the package index once and kept in `benchmarks/.environments`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".environments"

#: The distributions that `pip install nameko` brings, itself included.
DISTRIBUTIONS = (
    "core",
    "plugins/nameko-amqp",
    "plugins/nameko-rpc",
    "plugins/nameko-events",
    "plugins/nameko-http",
    "plugins/nameko-timer",
    ".",
)

# Beside each peer what it needs to install and run today.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "nameko-2.14.1": ("nameko==2.14.1", "importlib-metadata<5", "setuptools<70", "werkzeug<3"),
    "nameko-3.0.0rc11": ("nameko==3.0.0rc11", "importlib-metadata<5", "setuptools<70", "werkzeug<3"),
    "faststream": ("faststream[rabbit]",),
    "chart": ("matplotlib",),
    "uvicorn": ("uvicorn[standard]", "starlette"),
}


def python_of(peer: str) -> Path:
    """The interpreter that has `peer` installed; the environment is built when it is missing.

    :raises subprocess.CalledProcessError: when the packages cannot be installed
    """
    if peer not in REQUIREMENTS:
        return Path(sys.executable)
    home = ENVIRONMENTS / peer
    python = home / "bin" / "python"
    finished = home / ".complete"
    if not finished.exists():
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[peer]], check=True)
        finished.touch()
    return python


@contextmanager
def users_python() -> Iterator[Path]:
    """The interpreter of a new environment with this nameko as its users have it: from wheels, compiled, nothing else.

    Much of what it takes to start goes into finding modules and distributions.
    """
    with tempfile.TemporaryDirectory(prefix="nameko-benchmarks-") as folder:
        wheels = Path(folder, "wheels")
        for source in DISTRIBUTIONS:
            command = [sys.executable, "-m", "build", "-w", "-o", wheels, HERE.parent / source]
            subprocess.run(command, check=True, capture_output=True)
        subprocess.run([sys.executable, "-m", "venv", Path(folder, "venv")], check=True)
        python = Path(folder, "venv", "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "-q", *wheels.glob("*.whl")], check=True, capture_output=True)
        yield python


def versions_of(peer: str) -> str:
    """The version of `peer` that is installed."""
    name = {
        "nameko-2.14.1": "nameko",
        "nameko-3.0.0rc11": "nameko",
        "bare py-amqp": "amqp",
        "nameko 3": "nameko",
        "guaranteed loop": "nameko",
    }.get(peer, peer)
    code = f"import importlib.metadata as m; print(m.version({name!r}))"
    answer = subprocess.run([str(python_of(peer)), "-c", code], check=True, capture_output=True, text=True)
    return answer.stdout.strip()
