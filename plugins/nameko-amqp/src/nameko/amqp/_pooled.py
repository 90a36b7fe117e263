"""kombu's connections to RabbitMQ for `nameko.amqp.publish`, with TLS that is verified as everywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import kombu
import kombu.connection
import kombu.transport.pyamqp
from kombu.utils.collections import HashedSeq

import amqp.transport
from nameko.amqp.tls import make_context


class _TlsTransport(amqp.transport.SSLTransport):  # type: ignore[misc]
    def _wrap_socket(self, sock: Any, server_hostname: str, **options: Any) -> Any:
        return make_context(options).wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)


class _RawConnection(kombu.transport.pyamqp.Connection):  # type: ignore[misc]
    def Transport(self, host: str, connect_timeout: float | None, ssl: Any = False, *args: Any, **options: Any) -> Any:
        """The transport; py-amqp calls this."""
        if not ssl:
            return super().Transport(host, connect_timeout, ssl, *args, **options)
        return _TlsTransport(host, connect_timeout=connect_timeout, ssl=ssl, **options)


class _Transport(kombu.transport.pyamqp.Transport):  # type: ignore[misc]
    Connection = _RawConnection

    def establish_connection(self) -> Any:
        client = self.client
        hostname, ssl = client.hostname, client.ssl
        if ssl or isinstance(ssl, Mapping):
            options = ssl if isinstance(ssl, Mapping) else {}
            client.ssl = {"server_hostname": hostname or "localhost", **options}
        try:
            return super().establish_connection()
        finally:
            # kombu has turned `localhost` into an address, which no certificate is for; and the next host is another.
            client.hostname, client.ssl = hostname, ssl


class _Verified:
    """Mix-in for kombu's connections: our transport, whatever kombu takes the URI of the next address to ask for."""

    ssl: Any
    login_method: str | None

    def get_transport_cls(self) -> Any:
        """kombu calls this for each transport it makes."""
        return _Transport

    def __eqhash__(self) -> Any:
        # What kombu's pools go by, which would give out connections that are not verified to those who want them so.
        options = sorted(self.ssl.items()) if isinstance(self.ssl, Mapping) else self.ssl
        return HashedSeq(super().__eqhash__(), repr(options), self.login_method)  # type: ignore[misc]


class _Pooled(_Verified, kombu.connection.PooledConnection):  # type: ignore[misc]
    pass


class _Pool(kombu.connection.ConnectionPool):  # type: ignore[misc]
    def new(self) -> Any:
        return _Pooled(self, **dict(self.connection._info(resolve=False)))


class Connection(_Verified, kombu.Connection):  # type: ignore[misc]
    """A connection to RabbitMQ that is verified, as are those of its pool."""

    def Pool(self, limit: int | None = None, **_: Any) -> Any:
        """A pool of such connections; kombu's pools call this."""
        return _Pool(self, limit)
