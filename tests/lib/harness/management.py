"""RabbitMQ's management API: to make and remove virtual hosts and users, and to look at what is there."""

from __future__ import annotations

import base64
import json
import os
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from harness.missing import missing

RABBITMQ_HOST = os.environ.get("NAMEKO_TEST_RABBITMQ_HOST", "127.0.0.1")
#: That of the broker which the tests share.
MANAGEMENT_URL = os.environ.get("NAMEKO_TEST_MANAGEMENT_URL", f"http://guest:guest@{RABBITMQ_HOST}:15672")


class Management:
    """The management API of one broker. Whatever is refused is an `OSError`.

    :param url: where it is, with user and password
    :param timeout_s: seconds that one request may take
    """

    def __init__(self, url: str = MANAGEMENT_URL, timeout_s: float = 10) -> None:
        parts = urlsplit(url)
        credentials = f"{parts.username or 'guest'}:{parts.password or 'guest'}"
        self._base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/api/"
        self._headers = {
            "Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}",
            "Content-Type": "application/json",
        }
        self._timeout_s = timeout_s

    def request(self, method: str, path: str, body: object | None = None) -> Any:
        """The decoded answer; None when it has none."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, method=method, data=data, headers=self._headers)
        with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
            content = response.read()
        return json.loads(content) if content else None

    def why_not_there(self) -> str | None:
        """Why it cannot be used; None when it can."""
        try:
            self.request("GET", "overview")
        except OSError as exc:
            return f"this RabbitMQ has no management API ({exc}): enable rabbitmq_management"
        return None

    def require(self) -> None:
        """Skip the test that runs where there is no such API."""
        reason = self.why_not_there()
        if reason is not None:
            missing(reason)

    def add_vhost(self, name: str) -> None:
        """Make a virtual host that `guest` may do everything in."""
        self.request("PUT", f"vhosts/{quote(name, safe='')}")
        self.allow(name, "guest")

    def delete_vhost(self, name: str) -> None:
        """Remove it, with all that is in it."""
        self.request("DELETE", f"vhosts/{quote(name, safe='')}")

    def add_user(self, name: str, password: str) -> None:
        """Make a user, or give one another password."""
        self.request("PUT", f"users/{name}", {"password": password, "tags": ""})

    def delete_user(self, name: str) -> None:
        """Remove it."""
        self.request("DELETE", f"users/{name}")

    def allow(self, vhost: str, user: str, pattern: str = ".*") -> None:
        """What a user may configure, write and read in a virtual host."""
        permissions = dict.fromkeys(("configure", "write", "read"), pattern)
        self.request("PUT", f"permissions/{quote(vhost, safe='')}/{user}", permissions)

    def connections(self, vhost: str) -> list[dict[str, Any]]:
        """The connections to a virtual host; some seconds old, depending on the broker."""
        found: list[dict[str, Any]] = self.request("GET", f"vhosts/{quote(vhost, safe='')}/connections")
        return found
