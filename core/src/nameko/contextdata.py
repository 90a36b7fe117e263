"""Dependencies that come with the call: who is calling, in which language, and the like."""

from __future__ import annotations

from typing import Any

from nameko.constants import (
    AUTH_TOKEN_CONTEXT_KEY,
    LANGUAGE_CONTEXT_KEY,
    USER_AGENT_CONTEXT_KEY,
    USER_ID_CONTEXT_KEY,
)
from nameko.containers import WorkerContext
from nameko.extensions import DependencyProvider


class ContextDataProvider(DependencyProvider):
    """Injects one value of the worker's context data, None when it is not there. Set `context_key` in a subclass."""

    context_key: str | None = None

    def get_dependency(self, worker_ctx: WorkerContext) -> Any:
        """The value."""
        return worker_ctx.data.get(self.context_key)  # type: ignore[arg-type]


class Language(ContextDataProvider):
    """Injects the language of the call."""

    context_key = LANGUAGE_CONTEXT_KEY


class UserId(ContextDataProvider):
    """Injects the id of the user on whose behalf the call is made."""

    context_key = USER_ID_CONTEXT_KEY


class UserAgent(ContextDataProvider):
    """Injects the user agent that the call comes from."""

    context_key = USER_AGENT_CONTEXT_KEY


class AuthToken(ContextDataProvider):
    """Injects the authentication token of the call."""

    context_key = AUTH_TOKEN_CONTEXT_KEY
