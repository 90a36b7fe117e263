"""The declaration of retries: how often and when a message whose method raised is tried again.

`Retry` is for `@rpc`, `@event_handler` and `@consume`::

    @event_handler("shop", "sold", retry=Retry(attempts=5, backoff=Backoff(first_s=1, max_s=60)))
    def charge(self, order):
        ...

What is not tried any more is parked. `nameko.amqp.retrier` carries that out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nameko.amqp._retry_wire import MAX_ATTEMPTS, MAX_DELAY_S
from nameko.amqp.settings import DEFAULT_ATTEMPTS, DEFAULT_DELAY_S, DEFAULT_MAX_DELAY_S
from nameko.exceptions import ConfigurationError

__all__ = ["Backoff", "Retry"]

ATTEMPTS_CONFIG_KEY = "RETRY_ATTEMPTS"
DELAY_CONFIG_KEY = "RETRY_DELAY"
MAX_DELAY_CONFIG_KEY = "RETRY_MAX_DELAY"

_MAX_FACTOR = 100
# With the greatest factor, far beyond the longest delay and far within the range of a float.
_MAX_EXPONENT = 64

ExceptionClasses = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Backoff:
    """Delays that grow: `first_s`, `first_s * factor`, `first_s * factor**2`, ..., at most `max_s`; all in seconds.

    Every different delay has a queue of its own on the broker while it is in use, so keep them few.

    :raises ConfigurationError: when a number is out of range
    """

    first_s: float = DEFAULT_DELAY_S
    factor: float = 2.0
    max_s: float = DEFAULT_MAX_DELAY_S

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_delay("Backoff: first_s", self.first_s)
        _check_delay("Backoff: max_s", self.max_s)
        _check_number("Backoff: factor", self.factor, 1, _MAX_FACTOR)

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures, counted from 1."""
        return min(self.first_s * self.factor ** min(failures - 1, _MAX_EXPONENT), self.max_s)


@dataclass(frozen=True)
class Retry:
    """How to go about a message whose method raised.

    :param attempts: how many times the method runs for a message, the first time included; then the message is parked.
        By default the configuration's `RETRY_ATTEMPTS`
    :param backoff: seconds to wait before each further attempt: a number; a sequence of them, of which the last is
        repeated; or a `Backoff`. By default one from the configuration's `RETRY_DELAY` to its `RETRY_MAX_DELAY`
    :param on: the exceptions, a class or several of them, after which to try again. By default every `Exception` that
        is not among the entrypoint's `expected_exceptions`
    :raises ConfigurationError: when one of them cannot be
    """

    attempts: int | None = None
    backoff: Backoff | float | Sequence[float] | None = None
    on: type[BaseException] | Sequence[type[BaseException]] | None = None

    def __post_init__(self) -> None:
        """Check the declaration."""
        if self.attempts is not None:
            _check_attempts("Retry: attempts", self.attempts)
        for delay_s in _as_sequence(self.backoff):
            _check_delay("Retry: backoff", delay_s)
        if self.on is not None and not (
            _exceptions(self.on) and all(_is_exception_class(each) for each in _exceptions(self.on))
        ):
            raise ConfigurationError(f"Retry: on takes exception classes, not {self.on!r}.")

    def delay_s(self, failures: int) -> float:
        """Seconds to wait after so many failures, counted from 1."""
        if isinstance(self.backoff, Backoff):
            return self.backoff.delay_s(failures)
        delays_s = _as_sequence(self.backoff)
        return delays_s[min(failures, len(delays_s)) - 1] if delays_s else Backoff().delay_s(failures)

    def covers(self, exc: BaseException, expected: ExceptionClasses) -> bool:
        """Whether to try again after `exc`.

        :param expected: the entrypoint's `expected_exceptions`
        """
        if self.on is None:
            return isinstance(exc, Exception) and not isinstance(exc, expected)
        return isinstance(exc, _exceptions(self.on))

    def completed(self, config: Mapping[str, Any]) -> Retry:
        """This declaration, with what it leaves open taken from the configuration.

        :raises ConfigurationError: when a key has an impossible value
        """
        attempts, backoff = self.attempts, self.backoff
        if attempts is None:
            attempts = config.get(ATTEMPTS_CONFIG_KEY, DEFAULT_ATTEMPTS)
            _check_attempts(ATTEMPTS_CONFIG_KEY, attempts)
        if backoff is None:
            first_s = config.get(DELAY_CONFIG_KEY, DEFAULT_DELAY_S)
            max_s = config.get(MAX_DELAY_CONFIG_KEY, DEFAULT_MAX_DELAY_S)
            _check_delay(DELAY_CONFIG_KEY, first_s)
            _check_delay(MAX_DELAY_CONFIG_KEY, max_s)
            backoff = Backoff(first_s, max_s=max_s)
        return Retry(attempts, backoff, self.on)


def check_declaration(retry: object, requeue_on_error: bool, declared_on: str) -> None:
    """Check the arguments of an entrypoint.

    :param declared_on: what to call the entrypoint
    :raises ConfigurationError: when `retry` is no `Retry`, or contradicts `requeue_on_error`
    """
    if retry is None:
        return
    if not isinstance(retry, Retry):
        raise ConfigurationError(f"{declared_on}: retry takes a nameko.amqp.Retry, not {retry!r}.")
    if requeue_on_error:
        raise ConfigurationError(
            f"{declared_on}: retry and requeue_on_error exclude each other; "
            "retry=Retry(on=BaseException) covers what requeue_on_error does."
        )


def _check_attempts(what: str, value: object) -> None:
    _check_number(what, value, 1, MAX_ATTEMPTS)
    if not isinstance(value, int):
        raise ConfigurationError(f"{what} must be a whole number, not {value!r}.")


def _check_delay(what: str, value: object) -> None:
    _check_number(what, value, 0, MAX_DELAY_S, " seconds")


def _check_number(what: str, value: object, least: float, most: float, unit: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ConfigurationError(f"{what} must be a number from {least} to {most}{unit}, not {value!r}.")


def _as_sequence(backoff: Backoff | float | Sequence[float] | None) -> Sequence[float]:
    if backoff is None or isinstance(backoff, Backoff):
        return ()
    if isinstance(backoff, Sequence) and not isinstance(backoff, str) and backoff:
        return backoff
    return (backoff,)  # type: ignore[return-value]  # anything else is refused where delays are checked


def _exceptions(classes: type[BaseException] | Sequence[type[BaseException]]) -> tuple[type[BaseException], ...]:
    return tuple(classes) if isinstance(classes, Sequence) else (classes,)


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)
