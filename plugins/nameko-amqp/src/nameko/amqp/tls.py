"""TLS for AMQP: verified unless the configuration says otherwise in so many words."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from typing import Any

from nameko.exceptions import ConfigurationError

_log = logging.getLogger(__name__)

_CERT_REQS = {
    "cert_none": ssl.CERT_NONE,
    "none": ssl.CERT_NONE,
    "cert_optional": ssl.CERT_OPTIONAL,
    "optional": ssl.CERT_OPTIONAL,
    "cert_required": ssl.CERT_REQUIRED,
    "required": ssl.CERT_REQUIRED,
}
_KNOWN = frozenset(
    [
        "ca_certs",
        "cert_reqs",
        "certfile",
        "check_hostname",
        "ciphers",
        "keyfile",
        "keyfile_password",
        "server_hostname",
        "verify",
    ]
)
_RECORD_BYTES = 65536


def make_context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The context for `options`, which are kombu's (`ca_certs`, `certfile`, `keyfile`, `cert_reqs`, ...), and `verify`.

    The chain and the host name are verified, with TLS 1.2 or newer; `verify: false` (or `cert_reqs: CERT_NONE`) turns
    that off, `check_hostname: false` the latter alone, each with a warning.

    :raises ConfigurationError: when an option is unknown or a file cannot be used, naming it
    """
    refuse_unknown_options(options)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _set_verification(context, options)
    try:
        _load(context, options)
    except (OSError, ssl.SSLError) as exc:
        files = ", ".join(f"{key} `{options[key]}`" for key in ("ca_certs", "certfile", "keyfile") if options.get(key))
        raise ConfigurationError(f"AMQP_SSL: cannot use {files or 'these options'}: {exc}") from None
    return context


def refuse_unknown_options(options: Mapping[str, Any]) -> None:
    """Check that there are no others than those of `make_context`.

    :raises ConfigurationError: when there are
    """
    unknown = sorted(set(options) - _KNOWN)
    if unknown:
        raise ConfigurationError(f"AMQP_SSL: unknown option `{unknown[0]}`; known are {', '.join(sorted(_KNOWN))}.")


def _set_verification(context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
    cert_reqs = _cert_reqs(options)
    if cert_reqs == ssl.CERT_NONE or options.get("check_hostname") is False:
        what = "the certificate" if cert_reqs == ssl.CERT_NONE else "the host name in the certificate"
        _log.warning("AMQP_SSL: %s of the broker is not verified; anyone on the way can pose as the broker", what)
        context.check_hostname = False
    context.verify_mode = cert_reqs


def _cert_reqs(options: Mapping[str, Any]) -> ssl.VerifyMode:
    if options.get("verify") is False:
        return ssl.CERT_NONE
    value = options.get("cert_reqs")
    if value is None:
        return ssl.CERT_REQUIRED
    if isinstance(value, str):
        known = _CERT_REQS.get(value.lower())
        if known is None:
            raise ConfigurationError(f"AMQP_SSL: cert_reqs `{value}` is not one of CERT_REQUIRED, CERT_NONE.")
        return known
    return ssl.VerifyMode(value)


def _load(context: ssl.SSLContext, options: Mapping[str, Any]) -> None:
    if options.get("ca_certs"):
        context.load_verify_locations(options["ca_certs"])
    elif context.verify_mode != ssl.CERT_NONE:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if options.get("certfile"):
        context.load_cert_chain(options["certfile"], options.get("keyfile"), options.get("keyfile_password"))
    if options.get("ciphers"):
        context.set_ciphers(options["ciphers"])


class TlsSession:
    """One TLS connection, without the socket: bytes to and from the wire pass through it.

    :param context: from `make_context`
    :param server_hostname: the name that the certificate must be for
    """

    def __init__(self, context: ssl.SSLContext, server_hostname: str) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)

    def handshake(self) -> bool:
        """Go on with the handshake as far as possible; whether it is complete.

        :raises ssl.SSLError: when it fails
        """
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def encrypt(self, data: bytes) -> bytes:
        """What to put on the wire for `data`, together with what the protocol itself has to say."""
        if data:
            self._tls.write(data)
        return self._outgoing.read()

    @property
    def has_outgoing(self) -> bool:
        """Whether the protocol itself has something to say."""
        return self._outgoing.pending > 0

    def decrypt(self, data: bytes) -> bytes:
        """What the peer sent, as far as `data` from the wire completes it.

        :raises ssl.SSLError: when the stream is broken or ends
        """
        self._incoming.write(data)
        pieces: list[bytes] = []
        try:
            while piece := self._tls.read(_RECORD_BYTES):
                pieces.append(piece)
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)

    def receive(self, data: bytes) -> None:
        """Take in `data` from the wire during the handshake."""
        self._incoming.write(data)
