import json

import injector
from nameko_injector.core import NamekoInjector, resource_request_scope
from seen import note
from werkzeug.wrappers import Request

from nameko.containers import ServiceContainer, WorkerContext
from nameko.rpc import rpc
from nameko.web.handlers import http


class Settings(dict):
    """The part of the configuration that is of interest."""


class Connection:
    """Closed at the end of the request that has used it."""

    def __init__(self, call_id):
        self.call_id = call_id

    def close(self):
        note("closed", call_id=self.call_id)


@injector.provider
def provide_settings(container: ServiceContainer) -> Settings:
    return Settings(container.config["INJECTED"])


@injector.provider
def provide_connection(worker_ctx: WorkerContext) -> Connection:
    return Connection(worker_ctx.call_id)


def configure(binder):
    binder.bind(Settings, to=provide_settings, scope=injector.singleton)
    binder.bind(Connection, to=provide_connection, scope=resource_request_scope)


INJECTOR = NamekoInjector(configure)


@INJECTOR.decorate_service
class Injected:
    name = "injected"

    @http("GET", "/settings")
    def show(self, request, settings: Settings, same: Request):
        return json.dumps({"settings": settings, "same": request is same})

    @rpc
    def connect(self, value, connection: Connection):
        return [value, connection.call_id]
