"""The entrypoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from nameko.concurrency import TaskThread, sleep
from nameko.containers import WorkerContext
from nameko.exceptions import ConfigurationError, ContainerBeingKilled
from nameko.extensions import Entrypoint, ExcInfo
from nameko_spool._claim import FAILED_DIRECTORY, Claim
from nameko_spool._config import DEFAULT_INTERVAL_S, INTERVAL_KEY

Method = TypeVar("Method", bound=Callable[..., Any])

logger = logging.getLogger(__name__)

# So many files are looked at in one go: a directory may hold millions.
_MAX_LISTED = 1000


class OnFile(Entrypoint):
    """Runs a service method for each file in a directory, with its `Path` as the only argument.

    A file is removed when the method has returned. When the method has raised, the file is moved to `failed/`. When the
    process dies before, the file is still there, and another process, or this one after a restart, takes it: the method
    runs *at least once* for each file, and never twice at the same time, whatever number of processes share the
    directory. A process takes `max_workers` files at once, and holds one more that waits for a free worker.

    Names that begin with a dot are left alone. Write a file under such a name and rename it when it is complete.

    :param directory: has to be there
    :param kwargs: `expected_exceptions` and `sensitive_arguments`, as for every entrypoint
    """

    def __init__(self, directory: str | os.PathLike[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.directory = Path(directory)
        self._claims: set[Claim] = set()
        self._thread: TaskThread | None = None

    def setup(self) -> None:
        """Look whether the directory can be used.

        :raises ConfigurationError: when it cannot
        """
        try:
            (self.directory / FAILED_DIRECTORY).mkdir(exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(f"{self!r}: {self.directory} cannot be used: {exc.strerror}") from exc

    def start(self) -> None:
        """Begin to look for files: every other extension is set up."""
        self._thread = self.container.spawn_managed_thread(self._run, identifier=f"spool {self.directory}")

    def stop(self) -> None:
        """Take no more files. Workers that are running go on, and deal with theirs."""
        if self._thread is not None:
            self._thread.kill()

    def kill(self) -> None:
        """Take no more files, and give back those that are taken: their workers are killed without an outcome."""
        self.stop()
        while self._claims:
            self._claims.pop().release()

    def not_ready_reason(self) -> str | None:
        """Why no file can be taken right now."""
        if os.access(self.directory, os.R_OK | os.W_OK | os.X_OK):
            return None
        return f"{self.directory} cannot be read and written"

    def _run(self) -> None:
        interval_s = self.container.config.get(INTERVAL_KEY)
        while True:
            try:
                self._take_files()
            except ContainerBeingKilled:
                return
            except OSError:  # a disk that is away comes back
                logger.exception("%r could not look into %s", self, self.directory)
            sleep(DEFAULT_INTERVAL_S if interval_s is None else interval_s)

    def _take_files(self) -> None:
        for path in sorted(islice(self._waiting_files(), _MAX_LISTED)):
            claim = Claim.on(path)
            if claim is not None:
                self._run_worker(claim)

    def _waiting_files(self) -> Iterator[Path]:
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)

    def _run_worker(self, claim: Claim) -> None:
        self._claims.add(claim)
        try:
            # Waits for a free worker, and may be killed meanwhile.
            self.container.spawn_worker(self, (claim.path,), {}, handle_result=partial(self._handle_result, claim))
        except BaseException:
            self._claims.discard(claim)
            claim.release()
            raise

    def _handle_result(
        self, claim: Claim, worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None
    ) -> tuple[Any, ExcInfo | None]:
        self._claims.discard(claim)
        try:
            if exc_info is None:
                claim.finish()
            else:
                claim.set_aside()
        except OSError:  # it will be taken again; raising here would end the service
            logger.exception("%r could not put away %s", self, claim.path)
        return result, exc_info


#: Decorates a service method: `@on_file("/var/spool/orders")`.
on_file: Callable[..., Callable[[Method], Method]] = OnFile.decorator
