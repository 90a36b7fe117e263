"""Which serializer is used to send, and which are accepted on receipt, as the configuration says.

The serializers themselves belong to whatever sends and receives; for AMQP, nameko-amqp registers them with kombu.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from nameko.config import config as global_config
from nameko.constants import ACCEPT_CONFIG_KEY, DEFAULT_SERIALIZER, SERIALIZER_CONFIG_KEY


class SerializationConfig(NamedTuple):
    """The names of the serializer to send with and of those to accept."""

    serializer: str
    accept: list[str]


def setup(config: Mapping[str, Any] | None = None) -> SerializationConfig:
    """What `serializer` and `ACCEPT` say; JSON, and the serializer alone, when they are not set."""
    settings = global_config if config is None else config
    serializer = settings.get(SERIALIZER_CONFIG_KEY) or DEFAULT_SERIALIZER
    accept = settings.get(ACCEPT_CONFIG_KEY) or [serializer]
    return SerializationConfig(serializer, list(accept))
