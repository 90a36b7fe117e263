from kombu import Exchange, Queue
from nameko_prometheus import PrometheusMetrics

from nameko.events import EventDispatcher, event_handler
from nameko.messaging import Publisher, consume
from nameko.rpc import rpc
from nameko.timer import timer
from nameko.web.handlers import http

JOBS = Exchange("measured-jobs", durable=True)


class Measured:
    name = "measured"

    metrics = PrometheusMetrics()
    dispatch = EventDispatcher()
    publish = Publisher(exchange=JOBS)

    @rpc
    def work(self):
        self.dispatch("worked", {})
        self.publish({}, routing_key="job")

    @event_handler("measured", "worked")
    def note(self, payload):
        pass

    @consume(Queue("measured-jobs", exchange=JOBS, routing_key="job", durable=True))
    def take(self, payload):
        pass

    @timer(interval=0.2)
    def tick(self):
        pass

    @http("GET", "/fail")
    def fail(self, request):
        raise ValueError("no")

    @http("GET", "/metrics")
    def show(self, request):
        return self.metrics.expose_metrics(request)
