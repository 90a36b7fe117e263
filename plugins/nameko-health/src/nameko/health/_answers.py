"""What is answered over HTTP: a WSGI application with `/live` and `/ready`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from nameko.health._process import HostedServices


class HealthAnswers:
    """Answers whether the process lives, and whether its services are ready.

    That it answers at all proves that its greenthreads get their turn: this is all that liveness is about.
    """

    def __init__(self, services: HostedServices) -> None:
        self._services = services

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, as any WSGI application."""
        status, body = self._answer(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        data = json.dumps(body).encode() + b"\n"
        headers = [("Content-Type", "application/json"), ("Cache-Control", "no-store")]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:  # RFC 9110, 15.5.6
            headers.append(("Allow", "GET, HEAD"))
        start_response(f"{status.value} {status.phrase}", [*headers, ("Content-Length", str(len(data)))])
        return [data]

    def _answer(self, method: str, path: str) -> tuple[HTTPStatus, dict[str, Any]]:
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} is not allowed here, only GET and HEAD"}
        if path == "/live":
            return HTTPStatus.OK, {"live": True, "pid": os.getpid()}
        if path == "/ready":
            return self._readiness()
        return HTTPStatus.NOT_FOUND, {"error": "there is only /live and /ready"}

    def _readiness(self) -> tuple[HTTPStatus, dict[str, Any]]:
        reasons = self._services.not_ready_reasons()
        ready = not any(reasons.values())
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return status, {"ready": ready, "pid": os.getpid(), "services": reasons}
