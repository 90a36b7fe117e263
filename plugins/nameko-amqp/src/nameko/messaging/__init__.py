"""Plain AMQP messaging: `@consume` runs a method for each message of a queue, `Publisher` publishes to an exchange.

::

    from kombu import Exchange, Queue
    from nameko.messaging import Publisher, consume

    orders = Exchange("orders", type="topic")

    class Warehouse:
        name = "warehouse"

        publish = Publisher(exchange=orders)

        @consume(Queue("orders-to-pack", exchange=orders, routing_key="paid"))
        def pack(self, order):
            self.publish({"id": order["id"]}, routing_key="packed")
"""

from nameko.messaging._consumer import Consumer
from nameko.messaging._delivery import Delivery, DeliveryInfo
from nameko.messaging._headers import HeaderDecoder, HeaderEncoder, decode_from_headers, encode_to_headers
from nameko.messaging._publisher import Publisher
from nameko.messaging._queue_consumer import QueueConsumer, QueueConsumerStopped

__all__ = [
    "Consumer",
    "Delivery",
    "DeliveryInfo",
    "HeaderDecoder",
    "HeaderEncoder",
    "Publisher",
    "QueueConsumer",
    "QueueConsumerStopped",
    "consume",
    "decode_from_headers",
    "encode_to_headers",
]

#: Decorates a method with a `Consumer`: `@consume(queue)`.
consume = Consumer.decorator

# Where users find them, and what tracebacks and pickles should say.
for _public in (
    Consumer,
    Delivery,
    DeliveryInfo,
    HeaderDecoder,
    HeaderEncoder,
    Publisher,
    QueueConsumer,
    QueueConsumerStopped,
    decode_from_headers,
    encode_to_headers,
):
    _public.__module__ = __name__
