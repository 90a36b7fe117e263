"""Greenthreads: the one package that knows which concurrency library runs underneath.

Everything else in the framework, and in extensions that want to stay portable, takes its threads, events, queues,
timeouts and sockets from here. Today the library is eventlet; replacing it means replacing this package, and the
greater part of it is in `_library`.
"""

from __future__ import annotations

import sys

from nameko.concurrency._doorbell import Doorbell
from nameko.concurrency._library import (
    Event,
    GreenletExit,
    GreenPool,
    GreenThread,
    Queue,
    QueueEmpty,
    Semaphore,
    Timeout,
    cancel_after,
    current,
    current_hub,
    detect_blocking,
    has_hub,
    is_monkey_patched,
    kill,
    listen,
    monkey_patch,
    non_blocking_socket,
    original,
    park,
    run_in_native_thread,
    running_greenthreads,
    schedule,
    sleep,
    socket,
    spawn,
    spawn_after,
    spawn_detached,
    ssl,
    trampoline,
    wait_readable,
    wait_writable,
)
from nameko.concurrency._names import resolve_names_in_native_threads
from nameko.concurrency._read_watch import ReadWatch
from nameko.concurrency._run_queue import soon
from nameko.concurrency._signal import Signal
from nameko.concurrency._tasks import TaskThread, is_from_outside, join_all, spawn_task, wait_all
from nameko.concurrency._together import SpawningProxy, SpawningSet, fail_fast_imap
from nameko.concurrency._workers import WorkerPool, WorkerThread, call_without_leaks

__all__ = [
    "Doorbell",
    "Event",
    "GreenPool",
    "GreenThread",
    "GreenletExit",
    "Queue",
    "QueueEmpty",
    "ReadWatch",
    "Semaphore",
    "Signal",
    "SpawningProxy",
    "SpawningSet",
    "TaskThread",
    "Timeout",
    "WorkerPool",
    "WorkerThread",
    "call_without_leaks",
    "cancel_after",
    "current",
    "current_hub",
    "detect_blocking",
    "fail_fast_imap",
    "has_hub",
    "is_from_outside",
    "is_monkey_patched",
    "join_all",
    "kill",
    "listen",
    "monkey_patch",
    "non_blocking_socket",
    "original",
    "park",
    "run_in_native_thread",
    "running_greenthreads",
    "schedule",
    "sleep",
    "socket",
    "soon",
    "spawn",
    "spawn_after",
    "spawn_detached",
    "spawn_task",
    "ssl",
    "trampoline",
    "wait_all",
    "wait_readable",
    "wait_writable",
]

# These are its public names, whatever module of it they are in.
for _name in __all__:
    _value = globals()[_name]
    if getattr(_value, "__module__", "").startswith(f"{__name__}._"):
        _value.__module__ = __name__
del _name, _value

if "eventlet.support.greendns" not in sys.modules:
    resolve_names_in_native_threads()
