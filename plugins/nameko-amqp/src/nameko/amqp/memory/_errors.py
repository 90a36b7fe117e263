"""What the broker refuses, with RabbitMQ's codes and in RabbitMQ's words."""

from __future__ import annotations

from typing import Any

from amqp.exceptions import ChannelError, ConnectionError, error_for_code

_NAMES = {
    320: "CONNECTION_FORCED",
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    503: "COMMAND_INVALID",
    530: "NOT_ALLOWED",
    540: "NOT_IMPLEMENTED",
}

_CLOSE_THE_CHANNEL = {403, 404, 405, 406}


class Refused(Exception):
    """The broker will not do it: it closes the channel or, for the graver codes, the connection.

    :param code: AMQP reply code
    :param text: what follows the code's name in the reply text
    """

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        self.text = f"{_NAMES[code]} - {text}"
        super().__init__(self.text)

    @property
    def closes_connection(self) -> bool:
        """Whether the whole connection has to go."""
        return self.code not in _CLOSE_THE_CHANNEL

    def as_amqp_error(self, method: tuple[int, int] | None = None) -> Any:
        """The exception that py-amqp raises for this.

        :param method: class and method id of the AMQP method that is refused
        """
        default = ConnectionError if self.closes_connection else ChannelError
        return error_for_code(self.code, self.text, method, default)


def not_found(kind: str, name: str, vhost: str) -> Refused:
    """There is no such queue or exchange."""
    return Refused(404, f"no {kind} '{name}' in vhost '{vhost}'")


def in_use(kind: str, name: str, vhost: str) -> Refused:
    """A delete that was only meant for what nobody uses."""
    return Refused(406, f"{kind} '{name}' in vhost '{vhost}' in use")


def reserved_name(kind: str, name: str) -> Refused:
    """A name that only the broker may give."""
    return Refused(403, f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def default_exchange() -> Refused:
    """The default exchange is as it is."""
    return Refused(403, "operation not permitted on the default exchange")


def locked(queue: str, vhost: str) -> Refused:
    """A queue that is exclusive to another connection."""
    return Refused(
        405,
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '{vhost}'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the original "
        "declaration.",
    )


def inequivalent(argument: str, kind: str, name: str, vhost: str, difference: str) -> Refused:
    """A declaration that differs from what exists."""
    return Refused(406, f"inequivalent arg '{argument}' for {kind} '{name}' in vhost '{vhost}': {difference}")


def unknown_delivery_tag(delivery_tag: int) -> Refused:
    """An acknowledgement of something that is not awaiting one."""
    return Refused(406, f"unknown delivery tag {delivery_tag}")
