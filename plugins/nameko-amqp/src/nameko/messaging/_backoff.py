"""How long a message that failed is kept back before it returns to its queue."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

#: Seconds before the first return, at which no message is executed more than five times a second; doubled each time.
FIRST_DELAY_S = 0.2
#: Seconds before every later return, at most.
MAX_DELAY_S = 5.0

_MESSAGES_REMEMBERED = 1000


class Backoff:
    """Growing delays for messages that fail again and again.

    The broker does not tell how often a message was delivered, so this process counts for itself, for the messages
    that failed last. Equal messages share a count.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[Any, int] = OrderedDict()

    def delay_s(self, message: Any) -> float:
        """Seconds to wait, now that handling `message` has failed once more."""
        key = _identity(message)
        failures = self._failures.pop(key, 0)
        self._failures[key] = failures + 1
        if len(self._failures) > _MESSAGES_REMEMBERED:
            self._failures.popitem(last=False)
        return min(FIRST_DELAY_S * 2.0 ** min(failures, 10), MAX_DELAY_S)

    def forget(self, message: Any) -> None:
        """It has been handled."""
        if self._failures:
            self._failures.pop(_identity(message), None)


def _identity(message: Any) -> Any:
    properties = message.properties
    return (
        message.delivery_info.get("routing_key"),
        properties.get("correlation_id"),
        properties.get("message_id"),
        hash(message.body),
    )
