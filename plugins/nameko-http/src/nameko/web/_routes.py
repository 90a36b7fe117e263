"""Finding the entrypoint for a request: werkzeug's routing, bound once, and remembering what it has found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from werkzeug.exceptions import HTTPException, NotFound
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
from nameko.web._mounts import Mount

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
    :param mounts: what stands below paths of its own. There, of the rules, only those that begin with that very path
        count: one that matches anything does not hide a mount, one that was made for the path is not hidden by it.
    """

    def __init__(self, url_map: Map, mounts: Sequence[Mount] = ()) -> None:
        self._url_map = url_map
        # Without host, scheme and query of a request a match is the same, only a redirect could not be made.
        self._adapter = url_map.bind("localhost") if _matches_by_path_alone(url_map) else None
        # Werkzeug would look for rules of their own where a websocket is asked for; ours are ordinary rules.
        self._websocket = None if any(rule.websocket for rule in url_map.iter_rules()) else False
        self._remembers = self._adapter is not None and _is_pure(url_map)
        self._matches: dict[tuple[str, str], Match] = {}
        paths = [_literal_beginning(rule.rule) for rule in url_map.iter_rules()]
        # The longest path first; each with whether there are rules below it too.
        self._mounts = [
            (mount, any(mount.covers(path.rstrip("/")) for path in paths))
            for mount in sorted(mounts, key=lambda each: len(each.path), reverse=True)
        ]

    def match(self, environ: Environ) -> Match:
        """The endpoint and the values of its URL.

        :raises HTTPException: when there is none: a werkzeug `NotFound`, `MethodNotAllowed` or redirect
        """
        key = (environ["REQUEST_METHOD"], environ["PATH_INFO"])
        remembered = self._matches.get(key)
        if remembered is not None:
            endpoint, values = remembered
            return endpoint, values.copy()
        endpoint, values = self._find_mount(environ) or self._find_rule(environ)
        if self._remembers and len(key[1]) <= _MAX_PATH_LENGTH:
            if len(self._matches) >= _MAX_MATCHES:
                self._matches.clear()
            self._matches[key] = endpoint, values.copy()
        return endpoint, values

    def _find_mount(self, environ: Environ) -> Match | None:
        for mount, has_rules in self._mounts:
            if mount.covers(environ["PATH_INFO"]):
                return self._find_rule_or(mount, environ) if has_rules else (mount, {})
        return None

    def _find_rule_or(self, mount: Mount, environ: Environ) -> Match:
        try:
            return self._find_rule(environ)
        except NotFound:
            return mount, {}

    def _find_rule(self, environ: Environ) -> Match:
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


def _literal_beginning(rule: str) -> str:
    placeholder = PLACEHOLDER.search(rule)
    return rule if placeholder is None else rule[: placeholder.start()]


def _matches_by_path_alone(url_map: Map) -> bool:
    return not url_map.host_matching and not any(
        rule.subdomain or rule.websocket or rule.redirect_to for rule in url_map.iter_rules()
    )


def _is_pure(url_map: Map) -> bool:
    names = {
        match["converter"] or "default" for rule in url_map.iter_rules() for match in PLACEHOLDER.finditer(rule.rule)
    }
    return all(url_map.converters.get(name) in _PURE_CONVERTERS for name in names)
