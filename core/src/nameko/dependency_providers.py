"""The dependency that every service can have: its configuration."""

from __future__ import annotations

from typing import Any

from nameko.containers import WorkerContext
from nameko.extensions import DependencyProvider


class Config(DependencyProvider):
    """Injects the configuration of the service, as a shallow copy."""

    def get_dependency(self, worker_ctx: WorkerContext) -> dict[str, Any]:
        """The configuration."""
        return dict(self.container.config)
