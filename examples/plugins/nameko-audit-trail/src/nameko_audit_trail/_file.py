"""The file of the trail, checked while there is still somebody to tell: who starts the service."""

from __future__ import annotations

from io import FileIO
from pathlib import Path

from nameko.exceptions import ConfigurationError
from nameko.extensions import Extension
from nameko_audit_trail._config import FILE_KEY


class AuditFile(Extension):
    """Refuses the start of a service whose audit trail could not be written."""

    def setup(self) -> None:
        """Open the file, as the trail does.

        :raises ConfigurationError: when it cannot be opened
        """
        path = self.container.config[FILE_KEY]
        try:
            FileIO(Path(path), "ab").close()
        except OSError as exc:
            raise ConfigurationError(f"{FILE_KEY}: {path} cannot be written: {exc.strerror}") from exc
