"""Cross-origin requests (CORS, the Fetch standard), as WSGI middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nameko.exceptions import ConfigurationError
from nameko.web._environ import Environ
from nameko.web._settings import count_or_zero, strings

_KEY = "WEB_SERVER_CORS"
_OPTIONS = {
    "origins": (),
    "methods": ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
    "headers": (),
    "expose_headers": (),
    "credentials": False,
    "max_age": 600,
}
_ANY = "*"


class Cors:
    """Lets browsers use the service from pages of other origins.

    :param options: `origins` (such as `https://app.example.com`, or `*`), `methods`, `headers` (that requests may
        carry, or `*`), `expose_headers` (that scripts may read), `credentials` (whether cookies and authorization may
        come along), `max_age` (seconds for which a browser remembers)
    :raises ConfigurationError: when an option is unknown, of the wrong kind, or dangerous
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], options: Mapping[str, Any]) -> None:
        self._app = app
        values = _checked(options)
        self._origins = frozenset(values["origins"])
        self._headers = frozenset(name.lower() for name in values["headers"])
        self._preflight = [
            ("Access-Control-Allow-Methods", ", ".join(values["methods"])),
            ("Access-Control-Max-Age", str(values["max_age"])),
        ]
        self._common = [("Access-Control-Allow-Credentials", "true")] if values["credentials"] else []
        self._exposed = [("Access-Control-Expose-Headers", ", ".join(values["expose_headers"]))]

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        origin = environ.get("HTTP_ORIGIN")
        if origin is None:
            return self._app(environ, self._varying(start_response, []))
        allowed = self._allowance(origin)
        if environ["REQUEST_METHOD"] == "OPTIONS" and "HTTP_ACCESS_CONTROL_REQUEST_METHOD" in environ:
            start_response("204 No Content", self._preflight_fields(environ, allowed))
            return []
        if allowed and self._exposed[0][1]:
            allowed = allowed + self._exposed
        return self._app(environ, self._varying(start_response, allowed))

    def _allowance(self, origin: str) -> list[tuple[str, str]]:
        if _ANY in self._origins:
            return [("Access-Control-Allow-Origin", _ANY)]
        if origin in self._origins:
            return [("Access-Control-Allow-Origin", origin), *self._common]
        return []

    def _preflight_fields(self, environ: Environ, allowed: list[tuple[str, str]]) -> list[tuple[str, str]]:
        vary = [("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")]
        if not allowed:
            return vary
        asked = [name.strip() for name in environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "").split(",")]
        granted = [name for name in asked if name and (name.lower() in self._headers or _ANY in self._headers)]
        fields = [("Access-Control-Allow-Headers", ", ".join(granted))] if granted else []
        return [*allowed, *self._preflight, *fields, *vary]

    def _varying(self, start_response: Callable[..., Any], fields: list[tuple[str, str]]) -> Callable[..., Any]:
        vary = [] if _ANY in self._origins else [("Vary", "Origin")]

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, *fields, *vary], exc_info)

        return start


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(options) - set(_OPTIONS))
    if unknown:
        raise ConfigurationError(f"{_KEY}: unknown option `{unknown[0]}`; there are {', '.join(_OPTIONS)}.")
    values: dict[str, Any] = {**_OPTIONS, **options}
    for name in ("origins", "methods", "headers", "expose_headers"):
        values[name] = strings(f"{_KEY}: `{name}`", values[name])
    if not values["origins"]:
        raise ConfigurationError(f"{_KEY}: `origins` is missing: a list of origins, or `*` for all.")
    count_or_zero(f"{_KEY}: `max_age`", values["max_age"])
    if values["credentials"] and _ANY in values["origins"]:
        raise ConfigurationError(
            f"{_KEY}: `credentials` for every origin would let any page act for a user: name them."
        )
    return values
