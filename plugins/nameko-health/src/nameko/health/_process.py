"""The services of the process, and whether they are ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer


class HostedServices:
    """The containers that run in the process, or are about to."""

    def __init__(self) -> None:
        self._containers: list[ServiceContainer] = []

    def add(self, container: ServiceContainer) -> None:
        """Ask this one, too, from now on."""
        self._containers.append(container)

    def remove(self, container: ServiceContainer) -> None:
        """Ask it no more. Harmless when called again."""
        self._containers = [each for each in self._containers if each is not container]

    def not_ready_reasons(self) -> dict[str, list[str]]:
        """Why each service cannot serve right now, by its name; empty lists when all can."""
        reasons: dict[str, list[str]] = {}
        for container in self._containers:
            try:
                reasons.setdefault(container.service_name, []).extend(container.not_ready_reasons())
            except ReferenceError:  # given up without being stopped
                self.remove(container)
        return reasons


#: Those of this process.
services = HostedServices()
