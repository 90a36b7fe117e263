"""Watches source files for `nameko run --reload`.

watchfiles waits in native code, which in a monkey-patched process would stop all greenthreads: this is for the
supervisor, which is not patched.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from logging import NOTSET, WARNING, getLogger
from typing import Any

from nameko.exceptions import CommandError

_log = getLogger(__name__)

#: What a change to makes services start anew.
SOURCE_SUFFIXES = (".py", ".pyi", ".yaml", ".yml", ".toml", ".json")


class SourceWatch:
    """Changes to source files below some directories, noticed in a thread of its own. A context manager.

    Folders that hold no sources of their own (`.git`, `__pycache__`, `.venv`, `node_modules` ...) are left out, as
    watchfiles' default filter knows them.

    :param directories: where the sources are
    :raises CommandError: when watchfiles is not installed, or there is no such directory
    """

    def __init__(self, directories: Sequence[str]) -> None:
        self._watchfiles = _import_watchfiles()
        for directory in directories:
            if not os.path.isdir(directory):
                raise CommandError(f"--reload-dir: there is no directory {directory!r}")
        self._directories = directories
        self._changed: list[str] = []
        self._stop = threading.Event()
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._thread = threading.Thread(target=self._watch, name="nameko-source-watch", daemon=True)

    def __enter__(self) -> SourceWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._reader)
        os.close(self._writer)

    def fileno(self) -> int:
        """A file descriptor that is readable when something has changed."""
        return self._reader

    def take(self) -> list[str]:
        """The paths that have changed since the last time, sorted."""
        os.read(self._reader, 4096)
        changed, self._changed = self._changed, []
        return sorted(set(changed))

    def _watch(self) -> None:
        try:
            for paths in self._batches():
                self._changed += paths
                os.write(self._writer, b"\0")
        except Exception as exc:  # the operating system watches so many files and no more
            _log.error("sources are not watched any more, services go on as they are: %s", exc)

    def _batches(self) -> Iterator[list[str]]:
        ignored = self._watchfiles.DefaultFilter()

        def is_source(change: Any, path: str) -> bool:
            return path.endswith(SOURCE_SUFFIXES) and ignored(change, path)

        for changes in self._watchfiles.watch(
            *self._directories, watch_filter=is_source, stop_event=self._stop, raise_interrupt=False
        ):
            yield [os.path.relpath(path) for _, path in changes]


def _import_watchfiles() -> Any:
    try:
        import watchfiles
    except ImportError as exc:
        raise CommandError("--reload needs watchfiles: pip install 'nameko-core[reload]'") from exc
    its_log = getLogger("watchfiles.main")
    if its_log.level == NOTSET:  # it would count the changes, which the supervisor names
        its_log.setLevel(WARNING)
    return watchfiles
