"""Claims: which process works on which file. The lock of an open file is the claim: it ends with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

FAILED_DIRECTORY = "failed"


class Claim:
    """A file that this process alone works on, until one of the methods ends that.

    `flock` works between the processes of one machine; over NFS it depends on the server.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def on(cls, path: Path) -> Claim | None:
        """The claim on a file; None when somebody else has it, or the file is gone.

        :raises OSError: when it cannot be read
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.stat(path), os.fstat(descriptor))
        except (BlockingIOError, FileNotFoundError):
            is_there = False
        except BaseException:
            os.close(descriptor)
            raise
        if not is_there:  # somebody was done with it between `open` and `flock`
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def finish(self) -> None:
        """The file is dealt with: remove it. While it is locked, so that nobody claims it in between."""
        try:
            self.path.unlink(missing_ok=True)
        finally:
            self.release()

    def set_aside(self) -> None:
        """The file cannot be dealt with: move it to `failed/`, from where it can be put back."""
        try:
            self.path.replace(self.path.parent / FAILED_DIRECTORY / self.path.name)
        finally:
            self.release()

    def release(self) -> None:
        """Leave the file to whoever comes next. Harmless when the claim has ended."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
