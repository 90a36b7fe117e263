"""Why there is no connection: which failures are refusals, and what each is in one line."""

from __future__ import annotations

import ssl

from amqp.exceptions import AccessRefused, FrameError, NotAllowed, UnexpectedFrame
from nameko.amqp.errors import CHECK_CREDENTIALS
from nameko.exceptions import ConfigurationError

#: What the broker will answer to the next attempt as well: not worth waiting for at start.
REFUSALS = (AccessRefused, NotAllowed, FrameError, UnexpectedFrame, ssl.SSLError, ConfigurationError)


def describe(error: BaseException | None) -> str:
    """An error in one line."""
    if error is None:
        return "no attempt has ended yet"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error})"
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def describe_first(error: BaseException | None) -> str:
    """The same for an attempt to connect where no connection has ever been: it may be the wrong place."""
    if isinstance(error, (FrameError, UnexpectedFrame)):
        return f"it does not speak AMQP there ({error}); is the port right, and plain or TLS (amqps://)?"
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLCertVerificationError):
        return f"{describe(error)}; is the port right, and one for TLS?"
    return describe(error)


def remedy(error: BaseException | None) -> str:
    """What to do about a refusal, where `describe_first` does not say so."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return "; check `ca_certs` in AMQP_SSL"
    return f"; {CHECK_CREDENTIALS}" if isinstance(error, (AccessRefused, NotAllowed)) else ""
