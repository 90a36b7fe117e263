"""The exchange and the queues of RPC, exactly as nameko 2.14 declares them: one that differs is refused with a 406."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kombu import Exchange, Queue

from nameko.config import config as global_config
from nameko.constants import RPC_EXCHANGE_CONFIG_KEY
from nameko.exceptions import ConfigurationError

DEFAULT_RPC_EXCHANGE = "nameko-rpc"

#: Name of a service's queue for requests.
RPC_QUEUE_TEMPLATE = "rpc-{}"
#: Name of a queue for replies: service, unique id.
RPC_REPLY_QUEUE_TEMPLATE = "rpc.reply-{}-{}"
#: Milliseconds after which the broker removes a reply queue that nobody consumes any more.
RPC_REPLY_QUEUE_TTL = 300000


def get_rpc_exchange(config: Mapping[str, Any] | None = None) -> Exchange:
    """The exchange that carries requests and replies.

    :param config: the process-wide configuration when not given
    :raises ConfigurationError: when it is one of the broker's own that cannot carry RPC
    """
    settings = global_config if config is None else config
    name = settings.get(RPC_EXCHANGE_CONFIG_KEY) or DEFAULT_RPC_EXCHANGE
    # kombu declares none of that prefix, so that nobody else would notice: through `amq.fanout` a request and its reply
    # would go to everybody.
    if name.startswith("amq.") and name != "amq.topic":
        raise ConfigurationError(
            f"{RPC_EXCHANGE_CONFIG_KEY} `{name}` cannot carry RPC: "
            "of the names that begin with `amq.`, which belong to the broker, only `amq.topic` can."
        )
    return Exchange(name, type="topic", durable=True)


get_rpc_exchange.__module__ = "nameko.rpc"


def request_queue(service_name: str, exchange: Exchange) -> Queue:
    """The queue that all instances of a service take their requests from."""
    return Queue(
        RPC_QUEUE_TEMPLATE.format(service_name), exchange=exchange, routing_key=f"{service_name}.*", durable=True
    )


def reply_queue(service_name: str, reply_id: str, exchange: Exchange) -> Queue:
    """The queue for replies to one caller; requests carry `reply_id`, its routing key, as their `reply_to`."""
    return Queue(
        RPC_REPLY_QUEUE_TEMPLATE.format(service_name, reply_id),
        exchange=exchange,
        routing_key=reply_id,
        durable=True,
        queue_arguments={"x-expires": RPC_REPLY_QUEUE_TTL},
    )
