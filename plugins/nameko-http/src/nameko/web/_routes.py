"""Finding the entrypoint for a request: werkzeug's routing, bound once, and remembering what it has found."""

from __future__ import annotations

import re
from typing import Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map
from werkzeug.routing.converters import (
    AnyConverter,
    FloatConverter,
    IntegerConverter,
    PathConverter,
    UnicodeConverter,
    UUIDConverter,
)
from werkzeug.routing.exceptions import RoutingException

from nameko.web._environ import Environ

#: A value in a URL rule: `<name>`, `<converter:name>`, `<converter(options):name>`.
PLACEHOLDER = re.compile(r"<(?:(?P<converter>[a-zA-Z_][a-zA-Z0-9_]*)(?:\((?P<options>.*?)\))?:)?(?P<name>\w+)>")

# For these, the same text in the URL always gives the same value, and one that cannot be changed.
_PURE_CONVERTERS = frozenset(
    {AnyConverter, FloatConverter, IntegerConverter, PathConverter, UnicodeConverter, UUIDConverter}
)
# How many matches are remembered, and the longest path for which one is.
_MAX_MATCHES = 4096
_MAX_PATH_LENGTH = 256

Match = tuple[Any, dict[str, Any]]


class Router:
    """Matches requests against a map of URL rules.

    :param url_map: the rules; no more are added once requests come
    """

    def __init__(self, url_map: Map) -> None:
        self._url_map = url_map
        # Without host, scheme and query of a request a match is the same, only a redirect could not be made.
        self._adapter = url_map.bind("localhost") if _matches_by_path_alone(url_map) else None
        # Werkzeug would look for rules of their own where a websocket is asked for; ours are ordinary rules.
        self._websocket = None if any(rule.websocket for rule in url_map.iter_rules()) else False
        self._remembers = self._adapter is not None and _is_pure(url_map)
        self._matches: dict[tuple[str, str], Match] = {}

    def match(self, environ: Environ) -> Match:
        """The endpoint and the values of its URL.

        :raises HTTPException: when there is none: a werkzeug `NotFound`, `MethodNotAllowed` or redirect
        """
        key = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        remembered = self._matches.get(key)
        if remembered is not None:
            endpoint, values = remembered
            return endpoint, values.copy()
        endpoint, values = self._find(environ)
        if self._remembers and len(key[1]) <= _MAX_PATH_LENGTH:
            if len(self._matches) >= _MAX_MATCHES:
                self._matches.clear()
            self._matches[key] = endpoint, values.copy()
        return endpoint, values

    def _find(self, environ: Environ) -> Match:
        if self._adapter is not None:
            path = environ["PATH_INFO"]
            if not path.isascii():
                path = path.encode("latin-1").decode("utf-8", "replace")
            try:
                return self._adapter.match(path, environ["REQUEST_METHOD"])  # type: ignore[return-value]
            except (HTTPException, RoutingException):
                pass  # it takes the whole request to say so
        adapter = self._url_map.bind_to_environ(environ)
        return adapter.match(websocket=self._websocket)  # type: ignore[return-value]


def _matches_by_path_alone(url_map: Map) -> bool:
    return not url_map.host_matching and not any(
        rule.subdomain or rule.websocket or rule.redirect_to for rule in url_map.iter_rules()
    )


def _is_pure(url_map: Map) -> bool:
    names = {
        match["converter"] or "default" for rule in url_map.iter_rules() for match in PLACEHOLDER.finditer(rule.rule)
    }
    return all(url_map.converters.get(name) in _PURE_CONVERTERS for name in names)
