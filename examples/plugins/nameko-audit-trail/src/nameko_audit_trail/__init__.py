"""An audit trail: a line of JSON for each call of each method of each service, and for the life of the services."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from nameko.plugins import ConfigKey, hookimpl
from nameko_audit_trail._config import FILE_KEY

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer, WorkerContext
    from nameko.extensions import ExcInfo, Extension

__all__ = ["AuditTrail", "plugin"]

# A line is written with one call, which appends it as a whole as long as it is not longer than a block.
MAX_LINE_BYTES = 4096


class AuditTrail:
    """The plugin. An object, since it remembers the file of each container.

    Nothing is caught here: a disk that is full is in the log, under the plugin's name, and no service notices.
    """

    def __init__(self) -> None:
        self._files: WeakKeyDictionary[ServiceContainer, FileIO] = WeakKeyDictionary()

    @hookimpl
    def nameko_config_keys(self) -> Sequence[ConfigKey]:
        """Where to write."""
        return [
            ConfigKey(FILE_KEY, "str", None, "The file that the audit trail is appended to; none is written without.")
        ]

    @hookimpl
    def nameko_service_extensions(self, config: Mapping[str, Any]) -> Mapping[str, Extension]:
        """Have a service refused whose trail could not be written: an observer could only say so at each call."""
        if not config.get(FILE_KEY):
            return {}
        from nameko_audit_trail._file import AuditFile  # here, nothing is held up that hosts no services

        return {"audit_file": AuditFile()}

    @hookimpl
    def nameko_container_started(self, container: ServiceContainer) -> None:
        """A service has started."""
        self._write(container, "started")

    @hookimpl
    def nameko_worker_result(self, worker_ctx: WorkerContext, exc_info: ExcInfo | None) -> None:
        """A method has an outcome, which its caller knows: from here on, nothing can undo the call."""
        outcome = "returned" if exc_info is None else f"raised {exc_info[0].__name__}"
        method = worker_ctx.entrypoint.method_name
        self._write(worker_ctx.container, outcome, method=method, calls=worker_ctx.call_id_stack)

    @hookimpl
    def nameko_container_stopped(self, container: ServiceContainer) -> None:
        """A service has stopped."""
        self._write_last(container, "stopped")

    @hookimpl
    def nameko_container_killed(self, container: ServiceContainer, exc_info: ExcInfo | None) -> None:
        """A service was killed."""
        self._write_last(container, "killed" if exc_info is None else f"killed by {exc_info[0].__name__}")

    def _write_last(self, container: ServiceContainer, event: str) -> None:
        try:
            self._write(container, event)
        finally:
            file = self._files.pop(container, None)
            if file is not None:
                file.close()

    def _write(self, container: ServiceContainer, event: str, **details: Any) -> None:
        path = container.config.get(FILE_KEY)
        if not path:
            return
        file = self._files.get(container)
        if file is None:  # workers may have come before the end of the start
            file = self._files[container] = FileIO(Path(path), "ab")
        line = {"time": round(time.time(), 3), "service": container.service_name, "event": event, **details}
        file.write(_encode(line))


def _encode(line: dict[str, Any]) -> bytes:
    text = json.dumps(line).encode()
    if len(text) < MAX_LINE_BYTES:
        return text + b"\n"
    return json.dumps({**line, "calls": "left out, too long"}).encode()[: MAX_LINE_BYTES - 1] + b"\n"


#: What the entry point names.
plugin = AuditTrail()
