"""What connecting and publishing can raise.

::

    Exception
    ├── UndeliverableMessage          a mandatory message had no queue to go to
    ├── amqp.exceptions.MessageNacked
    │   └── MessageRefused            a queue is full and refuses; others that it goes to may have it
    ├── PublishTimeout                no confirm within the deadline: whether the message arrived is not known
    ├── nameko.exceptions.TemporaryFailure
    │   └── BrokerUnreachable         no connection within START_TIMEOUT, or CONNECT_TIMEOUT outside of services
    │                                 (also a ConnectionError)
    ├── nameko.exceptions.ConfigurationError
    │   └── BrokerRefused             wrong password, unknown vhost, bad certificate, ... (also a ConnectionError)
    └── kombu.exceptions.EncodeError
        └── MessageTooLarge           bigger than MAX_MESSAGE_BYTES; nothing was sent
"""

from __future__ import annotations

from kombu.exceptions import EncodeError

from amqp.exceptions import MessageNacked
from nameko.exceptions import ConfigurationError, TemporaryFailure

CHECK_CREDENTIALS = "check user, password and virtual host in AMQP_URI"


class UndeliverableMessage(Exception):
    """A mandatory message could not be routed to any queue."""


# Its path in nameko 2.14, where services import it from.
UndeliverableMessage.__module__ = "nameko.amqp.publish"


class MessageRefused(MessageNacked):  # type: ignore[misc]
    """The broker has not taken the message: as a rule, because a queue that it goes to is at its limit and refuses.

    Of several queues that it goes to, others may have got it.
    """


class PublishTimeout(Exception):
    """The broker has not confirmed the message within the deadline. It may have arrived, or still arrive."""


class BrokerUnreachable(TemporaryFailure, ConnectionError):
    """No connection to the broker could be made for as long as a service that starts, or a client, waits for it."""


class BrokerRefused(ConfigurationError, ConnectionError):
    """The broker answered and refused: credentials, virtual host, permissions, or a certificate that does not verify.

    Raised at start only; a broker that begins to refuse later is tried again.
    """


class MessageTooLarge(EncodeError):  # type: ignore[misc]
    """The encoded message exceeds `MAX_MESSAGE_BYTES`; nothing was sent."""


def nacked(exchange: str, routing_key: str) -> MessageRefused:
    """What to raise when the broker has answered to a message with basic.nack."""
    return MessageRefused(
        f"the broker could not take the message (exchange `{exchange}`, routing key `{routing_key}`): a queue there is "
        "probably at its limit (`max-length` with `reject-publish`); send it again when there is room"
    )
