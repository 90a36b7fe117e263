"""What nameko-amqp tells the plugin system about itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nameko.constants import DEFAULT_HEARTBEAT, DEFAULT_SERIALIZER
from nameko.plugins import ConfigKey, ExtensionInfo, RunOption, Stat, hookimpl

if TYPE_CHECKING:
    import click

    from nameko.amqp.broker import Broker
    from nameko.containers import ServiceContainer

# kombu and the code that needs it are imported when a hook is called, not when the plugin is found.


@hookimpl
def nameko_extensions() -> Sequence[ExtensionInfo]:
    """The extensions of nameko.amqp and nameko.messaging."""
    from nameko.amqp.broker import Broker
    from nameko.messaging import Consumer, Delivery, Publisher

    return [
        ExtensionInfo(Broker, "publish, declare and subscribe, for extensions that talk AMQP"),
        ExtensionInfo(Consumer, "runs a method for each message of a queue (`@consume`)"),
        ExtensionInfo(Publisher, "injects a function that publishes to an exchange"),
        ExtensionInfo(Delivery, "injects what came with a message: redelivered, attempt, ids, headers"),
    ]


@hookimpl
def nameko_config_keys() -> Sequence[ConfigKey]:
    """The configuration of the broker, its connections and its messages."""
    from nameko.amqp.settings import (
        DEFAULT_ATTEMPTS,
        DEFAULT_CONNECT_TIMEOUT_S,
        DEFAULT_DELAY_S,
        DEFAULT_MAX_DELAY_S,
        DEFAULT_MAX_MESSAGE_BYTES,
        DEFAULT_PUBLISH_TIMEOUT_S,
        DEFAULT_START_TIMEOUT_S,
        IN_PROCESS_URI,
    )

    return [
        ConfigKey(
            "AMQP_URI",
            "str",
            IN_PROCESS_URI,
            "The broker: `pyamqp://user:password@host:port/vhost` (`amqps://` for TLS), several separated by `;`, or "
            "`memory://localhost/name` for one within the process.",
        ),
        ConfigKey(
            "AMQP_SSL",
            "bool or mapping",
            None,
            "TLS: true, or options (`ca_certs`, `certfile`, `keyfile`, `server_hostname`, `ciphers`, `verify`, "
            "`check_hostname`); the broker's certificate and host name are verified unless `verify: false`.",
        ),
        ConfigKey("LOGIN_METHOD", "str", None, "SASL mechanism: PLAIN, AMQPLAIN, EXTERNAL or GSSAPI."),
        ConfigKey("HEARTBEAT", "seconds", DEFAULT_HEARTBEAT, "AMQP heartbeat of every connection; null for none."),
        ConfigKey("TRANSPORT_OPTIONS", "mapping", {}, "Further arguments of the AMQP library's connection."),
        ConfigKey(
            "CONNECT_TIMEOUT", "seconds", DEFAULT_CONNECT_TIMEOUT_S, "One attempt to connect, handshakes included."
        ),
        ConfigKey(
            "START_TIMEOUT",
            "seconds",
            DEFAULT_START_TIMEOUT_S,
            "How long a starting service waits for the broker; a running one waits for ever.",
        ),
        ConfigKey(
            "PUBLISH_TIMEOUT",
            "seconds",
            DEFAULT_PUBLISH_TIMEOUT_S,
            "How long a publisher waits for the broker's confirm.",
        ),
        ConfigKey("PREFETCH_COUNT", "int", None, "Unacknowledged messages per consumer; `max_workers` by default."),
        ConfigKey(
            "RETRY_ATTEMPTS",
            "int",
            DEFAULT_ATTEMPTS,
            "How many times a method runs for a message that fails, unless its `Retry` says otherwise.",
        ),
        ConfigKey(
            "RETRY_DELAY",
            "seconds",
            DEFAULT_DELAY_S,
            "How long such a message waits before the second attempt; before each further one twice as long.",
        ),
        ConfigKey("RETRY_MAX_DELAY", "seconds", DEFAULT_MAX_DELAY_S, "But no longer than this."),
        ConfigKey(
            "MAX_MESSAGE_BYTES",
            "bytes",
            DEFAULT_MAX_MESSAGE_BYTES,
            "Messages with a bigger body are refused, both ways.",
        ),
        ConfigKey("serializer", "str", DEFAULT_SERIALIZER, "The serializer of messages that are sent."),
        ConfigKey("ACCEPT", "list of str", None, "Serializers or content types accepted; `serializer` by default."),
        ConfigKey(
            "SERIALIZERS",
            "mapping",
            {},
            "Further serializers: name to `encoder`, `decoder` (dotted paths), `content_type`, `content_encoding`.",
        ),
        ConfigKey("ALLOW_PICKLE", "bool", False, "Must be true where pickle is sent or accepted."),
        ConfigKey(
            "ACCEPT_COMPRESSION",
            "list of str",
            [],
            "Compressions accepted on receipt: gzip, zlib, bzip2, lzma.",
        ),
    ]


@hookimpl
def nameko_run_options() -> Sequence[RunOption]:
    """`--broker`."""
    return [RunOption("--broker", "AMQP_URI", "The broker to use.", metavar="URI")]


@hookimpl
def nameko_commands(cli: click.Group) -> None:
    """`nameko amqp`."""
    from nameko.amqp._commands import amqp

    cli.add_command(amqp)


@hookimpl
def nameko_ready(container: ServiceContainer) -> Sequence[str]:
    """Not ready while a connection is down or a queue is not consumed."""
    return [reason for broker in _brokers(container) for reason in broker.not_ready_reasons()]


@hookimpl
def nameko_stats(container: ServiceContainer) -> Sequence[Stat]:
    """The state of the connections, and what was counted about messages."""
    return [stat for broker in _brokers(container) for stat in broker.stats()]


def _brokers(container: ServiceContainer) -> list[Broker]:
    from nameko.amqp.broker import Broker

    return [extension for extension in container.subextensions if isinstance(extension, Broker)]
