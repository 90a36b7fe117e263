"""Pytest plugin of nameko-http: fixtures for services with HTTP and websocket entrypoints.

Inert until a test asks for one of its fixtures: only then are nameko, its dependencies and requests imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import requests

    from nameko.testing.websocket import VirtualSocket

_HOST = "127.0.0.1"


@pytest.fixture
def web_config() -> dict[str, Any]:
    """Configuration with a `WEB_SERVER_ADDRESS` of its own."""
    from nameko.concurrency import original

    with original("socket").socket() as sock:
        sock.bind((_HOST, 0))
        return {"WEB_SERVER_ADDRESS": f"{_HOST}:{sock.getsockname()[1]}"}


@pytest.fixture
def web_config_port(web_config: dict[str, Any]) -> int:
    """The port in `web_config`."""
    from nameko.web.server import parse_address

    return parse_address(web_config["WEB_SERVER_ADDRESS"]).port


@pytest.fixture
def web_session(web_config_port: int) -> Iterator[requests.Session]:
    """A session of the library `requests` that takes paths: `web_session.get("/path")`."""
    try:
        import requests
    except ImportError:
        raise pytest.UsageError("the fixture `web_session` needs the library requests: pip install requests") from None

    class Session(requests.Session):
        def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
            path = url.decode() if isinstance(url, bytes) else url
            return super().request(method, f"http://{_HOST}:{web_config_port}{path}", *args, **kwargs)

    with Session() as session:
        yield session


@pytest.fixture
def websocket(web_config_port: int) -> Iterator[Callable[[], VirtualSocket]]:
    """`websocket()` connects to the service, which has to run already, and returns a `VirtualSocket`."""
    from nameko import concurrency
    from nameko.testing.websocket import make_virtual_socket

    running = []

    def connect() -> VirtualSocket:
        app, wait_for_socket = make_virtual_socket(_HOST, web_config_port)
        running.append((app, concurrency.spawn(app.run_forever)))
        connected: VirtualSocket = wait_for_socket()
        return connected

    yield connect
    for app, thread in running:
        app.close()
        thread.wait()
