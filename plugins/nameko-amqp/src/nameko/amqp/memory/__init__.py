"""An AMQP broker inside the process: `memory://localhost/<vhost>`.

It stands in for RabbitMQ wherever everything runs in one process: first steps, `nameko shell --run`, tests. Exchanges,
queues, acknowledgements, confirms, returns, expiry and dead letters behave as they do there, down to the texts of the
errors. Nothing outlives the process, and no other process can connect.

- `Transport`, `Connection`, `Channel`: for kombu, `kombu.Connection("memory://localhost/vhost", transport=Transport)`
- `get_broker(vhost)`: look inside: `queue_names`, `queue_info(name)`, `exchange_names`, `bindings()`; and
  `close_all_connections()` to see how clients take it
- `drop_broker(vhost)`: forget one and all that is in it

Connections may live in any thread: one with greenthreads, where only the caller waits, or a plain one.

Differences from RabbitMQ: no transactions, no users or permissions, message priorities are ignored, and every queue
behaves as a classic one. Expiry is timed by the event loop of a thread that has one; where none runs, it is noticed
when the queue is next looked up.
"""

from nameko.amqp.memory._broker import MemoryBroker
from nameko.amqp.memory._channel import Channel
from nameko.amqp.memory._connection import Connection
from nameko.amqp.memory._inspection import BindingInfo, QueueInfo
from nameko.amqp.memory._messages import MAX_MESSAGE_BYTES
from nameko.amqp.memory._registry import drop_broker, get_broker
from nameko.amqp.memory._transport import Transport

__all__ = [
    "MAX_MESSAGE_BYTES",
    "BindingInfo",
    "Channel",
    "Connection",
    "MemoryBroker",
    "QueueInfo",
    "Transport",
    "drop_broker",
    "get_broker",
]

for _cls in (BindingInfo, Channel, Connection, MemoryBroker, QueueInfo, Transport):
    _cls.__module__ = __name__
