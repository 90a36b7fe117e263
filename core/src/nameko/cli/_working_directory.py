"""The current directory as a place for modules: services and local plugins are found there."""

from __future__ import annotations

import importlib
import os
import sys


def add_working_directory() -> None:
    """Let modules be imported from the current directory, as `python -m` does."""
    directory = os.getcwd()
    if os.path.exists("http.py"):  # the name of an example in nameko's documentation
        keep_standard_library("http")
    if directory not in sys.path and "" not in sys.path:
        sys.path.insert(0, directory)


def keep_standard_library(name: str) -> None:
    """Make sure that `import name` finds the standard library's module and not one in the current directory."""
    path = sys.path[:]
    sys.path[:] = [entry for entry in path if entry not in ("", os.getcwd())]
    try:
        importlib.import_module(name)
    finally:
        sys.path[:] = path
