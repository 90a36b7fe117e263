"""What a process of `nameko run --workers N` knows of the N: which one it is, and how many there are.

Extensions that use something there is only one of per machine, an address to listen on for instance, look here.
"""

from __future__ import annotations

import os

#: Environment variable with the number of this process among its siblings, from 0. It keeps its number when restarted.
WORKER_INDEX_VARIABLE = "NAMEKO_WORKER_INDEX"
#: Environment variable with the number of processes that run the same services.
WORKER_COUNT_VARIABLE = "NAMEKO_WORKER_COUNT"


def worker_index() -> int:
    """The number of this process among those that a `nameko run --workers` started, from 0; 0 for a process alone."""
    return int(os.environ.get(WORKER_INDEX_VARIABLE, "0"))


def worker_count() -> int:
    """How many processes a `nameko run --workers` keeps running the services of this one; 1 for a process alone."""
    return int(os.environ.get(WORKER_COUNT_VARIABLE, "1"))
