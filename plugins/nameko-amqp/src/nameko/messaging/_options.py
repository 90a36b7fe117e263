"""The exchange that a publisher is given: by itself, by name, or not at all."""

from __future__ import annotations

from kombu import Exchange


def exchange_name(exchange: Exchange | str | None) -> str:
    """The name of an exchange that is given by itself, by name, or not at all (the default exchange)."""
    if exchange is None:
        return ""
    return exchange if isinstance(exchange, str) else str(exchange.name)
