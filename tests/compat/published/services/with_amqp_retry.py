from kombu import Exchange, Queue
from nameko_amqp_retry import Backoff, entrypoint_retry
from nameko_amqp_retry.events import event_handler
from nameko_amqp_retry.messaging import consume
from nameko_amqp_retry.rpc import rpc
from seen import note

from nameko.extensions import DependencyProvider

TASKS = Queue("patient-tasks", exchange=Exchange("patient-tasks", durable=True), routing_key="task", durable=True)


class Soon(Backoff):
    schedule = (50, 100)
    random_sigma = 0
    limit = 3


class Context(DependencyProvider):
    def get_dependency(self, worker_ctx):
        return worker_ctx


class Patient:
    """Every method works at the third attempt, but for the one that never does."""

    name = "patient"

    worker_ctx = Context()

    @rpc
    def ask(self, value):
        self._try("ask", value)
        return f"answer to {value}"

    @rpc
    @entrypoint_retry(retry_for=ValueError, limit=3, schedule=(50,), random_sigma=0)
    def ask_decorated(self, value):
        if self._attempt("ask_decorated", value) < 3:
            raise ValueError("not yet")
        return f"answer to {value}"

    @rpc
    def ask_in_vain(self, value):
        self._attempt("ask_in_vain", value)
        raise Soon()

    @event_handler("patience", "tested")
    def handle(self, payload):
        self._try("handle", payload)

    @consume(TASKS)
    def take(self, payload):
        self._try("take", payload)

    def _try(self, method, value):
        if self._attempt(method, value) < 3:
            raise Soon()

    def _attempt(self, method, value):
        stack = self.worker_ctx.call_id_stack
        attempt = 1 + sum(call_id.endswith(".backoff") for call_id in stack)
        note(method, value=value, attempt=attempt)
        return attempt
