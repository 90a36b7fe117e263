"""HTTPS: the server's TLS settings, and TLS between a connection and its socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from nameko import concurrency
from nameko.exceptions import ConfigurationError
from nameko.web._errors import ConnectionLost
from nameko.web._transport import READ_BYTES, Transport

ssl = concurrency.original("ssl")

_KEY = "WEB_SERVER_SSL"
_OPTIONS = frozenset({"certfile", "keyfile", "password", "cafile", "ciphers"})


def tls_wrapper(options: Mapping[str, Any]) -> Callable[[Transport], Transport]:
    """What makes a plain connection one with TLS, for `WEB_SERVER_SSL`: TLS 1.2 or newer, HTTP/1.1 only.

    :param options: `certfile` (the chain), `keyfile` unless it is in there, `password` of the key, `ciphers`; with
        `cafile`, clients must present a certificate that it has signed
    :raises ConfigurationError: when an option is unknown, or a file cannot be used
    """
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigurationError(f"{_KEY}: unknown option `{unknown[0]}`; there are {', '.join(sorted(_OPTIONS))}.")
    if "certfile" not in options:
        raise ConfigurationError(f"{_KEY}: `certfile` is missing: the path of the server's certificate chain.")
    try:
        return partial(TlsTransport, context=_context(options))
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{_KEY}: certificate or key cannot be used: {exc}") from exc


def _context(options: Mapping[str, Any]) -> Any:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(options["certfile"], options.get("keyfile"), options.get("password") or "")
    if options.get("ciphers"):
        context.set_ciphers(options["ciphers"])
    if options.get("cafile"):
        context.load_verify_locations(options["cafile"])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsTransport:
    """A connection that speaks TLS over another transport. The handshake takes place with the first `recv`."""

    __slots__ = ("_incoming", "_outgoing", "_plain", "_tls")

    def __init__(self, plain: Transport, context: Any) -> None:
        self._plain = plain
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    @property
    def deadline(self) -> float:
        """See `Transport`."""
        return self._plain.deadline

    @deadline.setter
    def deadline(self, value: float) -> None:
        self._plain.deadline = value

    def recv(self) -> bytes:
        """See `Transport`; a failure of TLS is a lost connection."""
        while True:
            try:
                data: bytes = self._tls.read(READ_BYTES)
                self._flush()
                return data
            except ssl.SSLWantReadError:
                self._flush()
                self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as exc:
                self._flush()  # the alert that tells the peer why
                raise ConnectionLost(f"TLS: {exc}") from None

    def _feed(self) -> None:
        data = self._plain.recv()
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, data: bytes) -> None:
        """See `Transport`."""
        view = memoryview(data)
        while view:
            view = view[self._encrypt(view[:READ_BYTES]) :]
            self._flush()

    def _encrypt(self, data: memoryview) -> int:
        while True:
            try:
                return self._tls.write(data)  # type: ignore[no-any-return]
            except ssl.SSLWantReadError:  # the peer renegotiates, or updates its keys
                self._flush()
                self._feed()
            except ssl.SSLError as exc:
                raise ConnectionLost(f"TLS: {exc}") from None

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._plain.send(data)

    def expire(self) -> None:
        """See `Transport`."""
        self._plain.expire()

    def shut_down_sending(self) -> None:
        """See `Transport`."""
        try:
            self._tls.unwrap()
        except ssl.SSLError:  # the peer's half of it is not waited for
            pass
        try:
            self._flush()
        except ConnectionLost:
            pass
        self._plain.shut_down_sending()

    def close(self) -> None:
        """See `Transport`."""
        self._plain.close()
