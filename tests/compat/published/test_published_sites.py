"""Web applications that call services: flask-nameko and django-nameko, each served with a thread for each request."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nameko.testing.utils import find_free_port

pytestmark = pytest.mark.rabbitmq

SERVICES = Path(__file__).parent / "services"


def get(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as response:
        return str(response.read().decode())


@pytest.fixture
def visit(host: Any) -> Callable[..., str]:
    """`visit(*command)` runs an application, told its port last, beside a greeter; a function that gets its pages."""

    def run(name: str, command: str, *arguments: str | Path) -> Callable[[str], str]:
        port = find_free_port()
        host.serve("greeter")
        printed = host.run(name, command, *arguments, str(port))
        host.wait_until(lambda: answers(port))
        host.site_printed = printed
        return lambda path: get(port, path)

    return run


def answers(port: int) -> bool:
    try:
        get(port, "/greet/nobody")
    except OSError:
        return False
    return True


def greet_many(page: Callable[[str], str], path: str) -> list[str]:
    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(lambda number: page(path.format(number)), range(30)))


def test_flask(visit: Any) -> None:
    page = visit("flask", "python", "-m", "flask", "--app", "flask_site", "run", "--port")
    assert greet_many(page, "/greet/{}") == [f"Hello, {number}!" for number in range(30)]


def test_django(host: Any, visit: Any) -> None:
    page = visit("django", "python", SERVICES / "django_site.py")

    assert greet_many(page, "/greet/{}") == [f"Hello, {number}!" for number in range(30)]
    assert greet_many(page, "/greet/{}?pool=german") == [f"Hallo, {number}!" for number in range(30)]
    assert page("/visit/Ada") == "welcome"
    host.wait_until(lambda: host.seen("visited") == [{"visitor": "Ada"}])


def test_django_keeps_idle_connections(host: Any, visit: Any) -> None:
    page = visit("django", "python", SERVICES / "django_site.py")

    greet_many(page, "/greet/{}")
    host.wait_until(lambda: "Heart beat 2 OK" in host.site_printed())
    assert page("/greet/Ada") == "Hello, Ada!"
    assert "System will discard" not in host.site_printed()
