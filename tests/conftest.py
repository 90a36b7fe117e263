"""What every test can ask for: a broker of each kind, containers that are stopped afterwards, a clean configuration."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
import pytest_timeout

from harness.tls import certificates, tls_listener  # noqa: F401
from nameko import concurrency

concurrency.monkey_patch()

# A run in the background may have been told to ignore Ctrl-C, and every process that it starts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

RABBITMQ_HOST = os.environ.get("NAMEKO_TEST_RABBITMQ_HOST", "127.0.0.1")
RABBITMQ_PORT = int(os.environ.get("NAMEKO_TEST_RABBITMQ_PORT", "5672"))
MANAGEMENT_URL = os.environ.get("NAMEKO_TEST_MANAGEMENT_URL", f"http://guest:guest@{RABBITMQ_HOST}:15672")


# A test that hangs is struck by its timeout in whatever greenthread happens to run, and again until the test notices.
_STRIKE_AGAIN_S = 5


def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> bool:
    """Fail a test that takes too long.

    pytest-timeout itself would end the whole run: it does not know its own thread for the main one under green threads.
    """
    signal.signal(signal.SIGALRM, lambda *_: pytest_timeout.timeout_sigalrm(item, settings))
    signal.setitimer(signal.ITIMER_REAL, settings.timeout, _STRIKE_AGAIN_S)
    return True


def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    """The test has ended in time."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    return True


def management(method: str, path: str, body: object | None = None) -> object:
    """Call RabbitMQ's management API; the decoded answer."""
    base, _, host = MANAGEMENT_URL.partition("//")[2].rpartition("@")
    credentials = base64.b64encode((base or "guest:guest").encode()).decode()
    request = urllib.request.Request(
        f"http://{host}/api/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        content = response.read()
    return json.loads(content) if content else None


class _Vhosts:
    """Makes and removes virtual hosts, through the management API or, where there is none, `rabbitmqctl`."""

    def __init__(self) -> None:
        try:
            management("GET", "overview")
            self._ctl = False
        except (OSError, urllib.error.URLError):
            self._ctl = True

    def create(self, name: str) -> None:
        if self._ctl:
            self._run("add_vhost", name)
            self._run("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        else:
            management("PUT", f"vhosts/{quote(name, safe='')}")
            permissions = {"configure": ".*", "write": ".*", "read": ".*"}
            management("PUT", f"permissions/{quote(name, safe='')}/guest", permissions)

    def delete(self, name: str) -> None:
        if self._ctl:
            self._run("delete_vhost", name)
        else:
            management("DELETE", f"vhosts/{quote(name, safe='')}")

    def _run(self, *arguments: str) -> None:
        subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, capture_output=True, timeout=30)


def why_no_rabbitmq() -> str | None:
    """Why tests cannot use RabbitMQ here; None when they can."""
    try:
        concurrency.socket.create_connection((RABBITMQ_HOST, RABBITMQ_PORT), timeout=2).close()
    except OSError as exc:
        return f"no RabbitMQ on {RABBITMQ_HOST}:{RABBITMQ_PORT} ({exc})"
    try:
        management("GET", "overview")
    except (OSError, urllib.error.URLError):
        if shutil.which("rabbitmqctl") is None:
            return "RabbitMQ has no management API and there is no rabbitmqctl: no virtual host can be made"
    return None


@pytest.fixture(scope="session")
def _vhosts() -> _Vhosts:
    reason = why_no_rabbitmq()
    if reason is not None:
        if os.environ.get("CI"):
            pytest.fail(f"{reason}: in CI, where there must be one, that is a failure", pytrace=False)
        pytest.skip(reason)
    return _Vhosts()


@pytest.fixture
def rabbitmq_uri(_vhosts: _Vhosts) -> Iterator[str]:
    """A virtual host of its own on RabbitMQ."""
    name = f"nameko_test_{uuid.uuid4().hex[:10]}"
    _vhosts.create(name)
    yield f"pyamqp://guest:guest@{RABBITMQ_HOST}:{RABBITMQ_PORT}/{name}"
    _vhosts.delete(name)


@pytest.fixture
def memory_uri() -> str:
    """An in-process broker of its own."""
    return f"memory://localhost/{uuid.uuid4().hex[:10]}"


@pytest.fixture(params=["memory", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker_uri(request: pytest.FixtureRequest) -> str:
    """Each broker in turn: what works over the one works over the other."""
    uri: str = request.getfixturevalue(f"{request.param}_uri")
    return uri


@pytest.fixture
def broker_config(broker_uri: str) -> dict[str, object]:
    """Configuration for `broker_uri`."""
    return {"AMQP_URI": broker_uri}


def eventually(condition: Callable[[], object], timeout_s: float = 5, interval_s: float = 0.01) -> object:
    """Wait until `condition()` is true, and return what it returned; fail when it never is."""
    deadline = concurrency.original("time").monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if concurrency.original("time").monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {condition}")
        concurrency.sleep(interval_s)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., object]:
    """`eventually(condition, timeout_s=5)`: waits for a condition."""
    return eventually
