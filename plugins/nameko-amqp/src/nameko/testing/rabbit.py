"""RabbitMQ's management API, as far as tests need it: virtual hosts, queues, messages, connections."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from nameko.masking import mask_uri

__all__ = ["Client", "HTTPError", "Response", "get_rabbit_connections", "reset_rabbit_connections"]

DEFAULT_TIMEOUT_S = 10.0

_DEFAULT_PORTS = {"http": 15672, "https": 15671}


@dataclass(frozen=True)
class Response:
    """An answer of the management API."""

    status_code: int
    reason: str
    text: str

    def json(self) -> Any:
        """The decoded body; None when there is none."""
        return json.loads(self.text) if self.text else None


class HTTPError(Exception):
    """The management API refused a request.

    :param method: of the request
    :param path: of the request
    :param response: the answer
    """

    def __init__(self, method: str, path: str, response: Response) -> None:
        super().__init__(method, path, response)
        self.method = method
        self.path = path
        self.response = response

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.response.status_code

    def __str__(self) -> str:
        answer = self.response
        return f"{self.method} {self.path}: {answer.status_code} {answer.reason} {answer.text}".rstrip()


class Client:
    """A client of RabbitMQ's management API.

    Every method raises `HTTPError` when RabbitMQ refuses the request, and `OSError` when there is no answer within
    `timeout_s`. What RabbitMQ tells about a queue or a connection is passed on as it is, a dict or a list of dicts.

    :param uri: where the API is, with the credentials: `"http://guest:guest@localhost:15672"`
    :param timeout_s: seconds that one request may take
    :raises ValueError: when `uri` is not an http or https URI
    """

    def __init__(self, uri: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        parts, port = _split(uri)
        if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError(f"{mask_uri(uri)!r} is not the URI of a management API: use http://user:pass@host:15672")
        self.host = parts.hostname
        self.port = port or _DEFAULT_PORTS[parts.scheme]
        self.timeout_s = timeout_s
        self._connection_cls = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._base_path = parts.path.rstrip("/")
        self._headers = {
            "Authorization": _basic_auth(unquote(parts.username or "guest"), unquote(parts.password or "guest")),
            "Content-Type": "application/json",
        }

    def _call(self, method: str, *path: str, body: Any = None) -> Any:
        url = "/".join([f"{self._base_path}/api", *(quote(part, safe="") for part in path)])
        response = self._request(method, url, None if body is None else json.dumps(body))
        if response.status_code >= 400:
            raise HTTPError(method, url, response)
        return response.json()

    def _request(self, method: str, url: str, body: str | None) -> Response:
        # A connection for each request: the API is asked now and then, and an idle one would be one more thing to lose.
        connection = self._connection_cls(self.host, self.port, timeout=self.timeout_s)
        try:
            connection.request(method, url, body, self._headers)
            answer = connection.getresponse()
            return Response(answer.status, answer.reason, answer.read().decode())
        finally:
            connection.close()

    # -- the broker, its virtual hosts and connections

    def get_overview(self) -> dict[str, Any]:
        """Version, cluster name and totals."""
        return self._call("GET", "overview")  # type: ignore[no-any-return]

    def get_all_vhosts(self) -> list[dict[str, Any]]:
        """Every virtual host."""
        return self._call("GET", "vhosts")  # type: ignore[no-any-return]

    def create_vhost(self, vhost: str) -> None:
        """Make the virtual host `vhost`; nobody may use it before `set_vhost_permissions`."""
        self._call("PUT", "vhosts", vhost)

    def delete_vhost(self, vhost: str) -> None:
        """Remove a virtual host with all that is in it; its connections are closed."""
        self._call("DELETE", "vhosts", vhost)

    def set_vhost_permissions(self, vhost: str, username: str, configure: str, read: str, write: str) -> None:
        """Let `username` do in `vhost` what the three regular expressions allow."""
        permissions = {"configure": configure, "read": read, "write": write}
        self._call("PUT", "permissions", vhost, username, body=permissions)

    def get_connections(self) -> list[dict[str, Any]]:
        """Every connection of the broker, once its statistics know it: that takes a few seconds."""
        return self._call("GET", "connections")  # type: ignore[no-any-return]

    def delete_connection(self, name: str) -> None:
        """Close the connection called `name`."""
        self._call("DELETE", "connections", name)

    # -- exchanges and bindings

    def get_exchanges(self, vhost: str) -> list[dict[str, Any]]:
        """The exchanges of `vhost`."""
        return self._call("GET", "exchanges", vhost)  # type: ignore[no-any-return]

    def get_exchange(self, vhost: str, name: str) -> dict[str, Any]:
        """One exchange."""
        return self._call("GET", "exchanges", vhost, name)  # type: ignore[no-any-return]

    def create_exchange(
        self,
        vhost: str,
        name: str,
        xtype: str = "topic",
        auto_delete: bool = False,
        durable: bool = True,
        **options: Any,
    ) -> None:
        """Declare an exchange.

        :param options: more of the API's fields: `internal`, `arguments`
        """
        body = {"type": xtype, "auto_delete": auto_delete, "durable": durable, **options}
        self._call("PUT", "exchanges", vhost, name, body=body)

    def delete_exchange(self, vhost: str, name: str) -> None:
        """Remove an exchange."""
        self._call("DELETE", "exchanges", vhost, name)

    def get_queue_bindings(self, vhost: str, queue: str) -> list[dict[str, Any]]:
        """The bindings of a queue, that to the default exchange included."""
        return self._call("GET", "queues", vhost, queue, "bindings")  # type: ignore[no-any-return]

    def create_queue_binding(
        self, vhost: str, exchange: str, queue: str, rt_key: str = "", args: dict[str, Any] | None = None
    ) -> None:
        """Bind `queue` to `exchange` with the routing key `rt_key`."""
        body = {"routing_key": rt_key, "arguments": args or {}}
        self._call("POST", "bindings", vhost, "e", exchange, "q", queue, body=body)

    # -- queues

    def get_queues(self, vhost: str) -> list[dict[str, Any]]:
        """The queues of `vhost`."""
        return self._call("GET", "queues", vhost)  # type: ignore[no-any-return]

    def get_queue(self, vhost: str, name: str) -> dict[str, Any]:
        """One queue; counters in it may be some seconds old."""
        return self._call("GET", "queues", vhost, name)  # type: ignore[no-any-return]

    def create_queue(self, vhost: str, name: str, **options: Any) -> None:
        """Declare a queue.

        :param options: the API's fields: `durable`, `auto_delete`, `arguments`
        """
        self._call("PUT", "queues", vhost, name, body=options)

    def delete_queue(self, vhost: str, name: str) -> None:
        """Remove a queue with its messages."""
        self._call("DELETE", "queues", vhost, name)

    def purge_queue(self, vhost: str, name: str) -> None:
        """Drop the messages that wait in a queue."""
        self._call("DELETE", "queues", vhost, name, "contents")

    # -- messages

    def publish(
        self,
        vhost: str,
        exchange: str,
        rt_key: str,
        payload: str,
        payload_enc: str = "string",
        properties: dict[str, Any] | None = None,
    ) -> bool:
        """Publish a message.

        :param payload: the body, as it is (`payload_enc="string"`) or in base64 (`payload_enc="base64"`)
        :param properties: AMQP properties, among them `headers`
        :returns: whether any queue got it
        """
        body = {
            "routing_key": rt_key,
            "payload": payload,
            "payload_encoding": payload_enc,
            "properties": properties or {},
        }
        # The default exchange has a name of its own here; an empty one would make a different path.
        answer = self._call("POST", "exchanges", vhost, exchange or "amq.default", "publish", body=body)
        return bool(answer["routed"])

    def get_messages(
        self,
        vhost: str,
        queue: str,
        count: int = 1,
        requeue: bool = False,
        truncate: int | None = None,
        encoding: str = "auto",
    ) -> list[dict[str, Any]]:
        """Take up to `count` messages off a queue, or look at them.

        :param requeue: put them back, marked as redelivered
        :param truncate: bytes of each body to return; all by default
        :param encoding: `"auto"` gives text where it is valid UTF-8, `"base64"` always base64
        """
        body: dict[str, Any] = {
            "count": count,
            "requeue": requeue,  # what RabbitMQ before 3.7 wants to know, and what later versions ask for instead:
            "ackmode": "ack_requeue_true" if requeue else "ack_requeue_false",
            "encoding": encoding,
        }
        if truncate is not None:
            body["truncate"] = truncate
        return self._call("POST", "queues", vhost, queue, "get", body=body)  # type: ignore[no-any-return]


def get_rabbit_connections(vhost: str, manager: Client) -> list[dict[str, Any]]:
    """The connections to `vhost` that the management API knows."""
    # A connection that is just being made or closed has no virtual host yet, or no longer.
    return [connection for connection in manager.get_connections() or () if connection.get("vhost") == vhost]


def reset_rabbit_connections(vhost: str, manager: Client) -> None:
    """Close every connection to `vhost`, as a broker that goes away would."""
    for connection in get_rabbit_connections(vhost, manager):
        _unless_gone(manager.delete_connection, connection["name"])


def _unless_gone(delete: Callable[[str], None], name: str) -> None:
    try:
        delete(name)
    except HTTPError as exc:
        if exc.status != http.client.NOT_FOUND:
            raise


def _basic_auth(username: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def _split(uri: str) -> tuple[SplitResult | None, int | None]:
    try:
        parts = urlsplit(uri)
        return parts, parts.port
    except ValueError:  # whose text may have a part of the password in it
        return None, None
