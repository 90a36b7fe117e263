"""A service that is trusted with secrets, and fails while it has them."""

from __future__ import annotations

from typing import Any

from nameko.contextdata import AuthToken
from nameko.dependency_providers import Config
from nameko.events import EventDispatcher, event_handler
from nameko.rpc import RpcProxy, rpc
from nameko.web.handlers import http


class Keeper:
    name = "keeper"

    token = AuthToken()
    config = Config()
    dispatch = EventDispatcher()
    nobody = RpcProxy("nobody")

    @rpc(sensitive_arguments="password")
    def log_in(self, password: str) -> Any:
        raise PermissionError(f"{len(password)} characters, {len(self.token or '')} in the token")

    @rpc
    def call_on(self) -> Any:
        return self.nobody.method()

    @rpc
    def tell(self) -> None:
        self.dispatch("told", {})

    @event_handler("keeper", "told", requeue_on_error=True)
    def hear(self, payload: Any) -> None:
        raise LookupError(f"{len(self.config['DATABASE_PASSWORD'])} characters")

    @http("GET", "/fail")
    def fail(self, request: Any) -> Any:
        raise RuntimeError(f"{len(request.headers['Authorization'])} characters")
