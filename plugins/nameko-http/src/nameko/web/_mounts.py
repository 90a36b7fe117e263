"""WSGI applications that other extensions of the container serve below a path of the web server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from werkzeug.wrappers import Request

from nameko.web._environ import Environ
from nameko.wsgi import WsgiApplication

_PATH = re.compile(r"(?:/[A-Za-z0-9\-._~]+)+")


class Mount:
    """A WSGI application below a path. Takes the place of an entrypoint, and occupies no worker.

    :raises ValueError: when `path` is not one or more `/name`
    """

    def __init__(self, path: str, app: WsgiApplication) -> None:
        if _PATH.fullmatch(path) is None:
            raise ValueError(f"an application can be mounted at a path like `/health` or `/a/b`, not at {path!r}")
        self.path = path
        self._app = app

    def covers(self, path: str) -> bool:
        """Whether `path` is the mount's or below it."""
        return path == self.path or path.startswith(f"{self.path}/")

    def handle_request(self, request: Request) -> WsgiApplication:
        """What answers the request."""
        return self._serve

    def _serve(self, environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
        below = {
            **environ,
            "SCRIPT_NAME": environ["SCRIPT_NAME"] + self.path,
            "PATH_INFO": environ["PATH_INFO"][len(self.path) :],
        }
        return self._app(below, start_response)
