"""Finding the entrypoint for a request: werkzeug's routing, bound once instead of for each request."""

from __future__ import annotations

from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.routing.exceptions import RoutingException

from nameko.web._environ import Environ


class Router:
    """Matches requests against a map of URL rules.

    :param url_map: the rules; no more are added once requests come
    """

    def __init__(self, url_map: Map) -> None:
        self._url_map = url_map
        # Without host, scheme and query of a request a match is the same, only a redirect could not be made.
        self._adapter = url_map.bind("localhost") if _matches_by_path_alone(url_map) else None

    def match(self, environ: Environ) -> tuple[Any, dict[str, Any]]:
        """The endpoint and the values of its URL.

        :raises HTTPException: when there is none: a werkzeug `NotFound`, `MethodNotAllowed` or redirect
        """
        if self._adapter is not None:
            path = environ["PATH_INFO"]
            if not path.isascii():
                path = path.encode("latin-1").decode("utf-8", "replace")
            try:
                return self._adapter.match(path, environ["REQUEST_METHOD"])  # type: ignore[return-value]
            except (HTTPException, RoutingException):
                pass
        return self._url_map.bind_to_environ(environ).match()  # type: ignore[return-value]


def _matches_by_path_alone(url_map: Map) -> bool:
    return not url_map.host_matching and not any(
        rule.subdomain or rule.websocket or rule.redirect_to for rule in url_map.iter_rules()
    )
