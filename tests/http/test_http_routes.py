"""Remembered routes: the same answers as werkzeug's, each time."""

from __future__ import annotations

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.test import EnvironBuilder

from nameko.web._routes import Router

RULES = [
    Rule("/", endpoint="root"),
    Rule("/a", endpoint="a", methods=["GET"]),
    Rule("/a", endpoint="a-post", methods=["POST"]),
    Rule("/a/<x>", endpoint="text"),
    Rule("/a/<int:x>", endpoint="int"),
    Rule("/a/fixed", endpoint="fixed"),
    Rule("/dir/", endpoint="dir"),
    Rule("/defaults", endpoint="defaults", defaults={"x": 1}),
    Rule("/path/<path:rest>/end", endpoint="path"),
    Rule("/any/<any(a, b):x>", endpoint="any"),
    Rule("/old", redirect_to="new"),
]
REQUESTS = [
    *[("GET", path) for path in ("/", "/a", "/a/1", "/a/x", "/a/fixed", "/dir/", "/dir", "/defaults", "/path/a/b/end")],
    *[("GET", path) for path in ("/any/a", "/any/c", "/nowhere", "//a", "/a/ü", "/a/" + "x" * 300, "/old")],
    *[(method, "/a") for method in ("POST", "HEAD", "DELETE")],
]


def outcome(match, environ):
    try:
        endpoint, values = match(environ)
    except HTTPException as exc:
        response = exc.get_response(environ)
        return response.status_code, response.headers.get("Location"), response.headers.get("Allow")
    return endpoint, dict(values)


@pytest.mark.parametrize("rules", [RULES, RULES[:-1]], ids=["by the request", "by the path"])
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_same_as_werkzeug(rules, method, path):
    url_map = Map([rule.empty() for rule in rules])
    environ = EnvironBuilder(path, method=method, base_url="http://host.example/").get_environ()
    router = Router(url_map)
    expected = outcome(lambda environ: url_map.bind_to_environ(environ).match(), environ)
    for _ in range(3):
        assert outcome(router.match, environ) == expected


def test_values_are_not_shared():
    router = Router(Map([Rule("/<x>", endpoint="e")]))
    environ = EnvironBuilder("/1").get_environ()
    for _ in range(3):
        _, values = router.match(environ)
        assert values == {"x": "1"}
        values["x"] = "changed"


def test_converters_of_ones_own_are_asked_each_time():
    asked = []

    class Counting(BaseConverter):
        def to_python(self, value):
            asked.append(value)
            return [value]

    router = Router(Map([Rule("/<counting:x>", endpoint="e")], converters={"counting": Counting}))
    environ = EnvironBuilder("/1").get_environ()
    for _ in range(3):
        assert router.match(environ) == ("e", {"x": ["1"]})
    assert asked == ["1", "1", "1"]


def test_memory_is_bounded():
    router = Router(Map([Rule("/<x>", endpoint="e")]))
    for number in range(10_000):
        router.match({**EnvironBuilder("/x").get_environ(), "PATH_INFO": f"/{number}"})
    assert len(router._matches) <= 4096


@pytest.mark.parametrize("host_matching", [False, True])
def test_websockets_use_ordinary_rules(host_matching):
    router = Router(Map([Rule("/ws", endpoint="e", host="h" if host_matching else None)], host_matching=host_matching))
    headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
    environ = EnvironBuilder("/ws", base_url="http://h/", headers=headers).get_environ()
    assert router.match(environ) == ("e", {})
