"""What is attached to every service: has the process answer for it."""

from __future__ import annotations

from contextlib import ExitStack

from nameko.extensions import Extension
from nameko.health._answers import HealthAnswers
from nameko.health._process import services
from nameko.health._settings import PATH_KEY, HealthSettings
from nameko.status_server import StatusPage


class ServiceHealth(Extension):
    """The health of one container. It is told from `setup()` on, and as one of the last things of a container ends."""

    def __init__(self) -> None:
        self._told = ExitStack()

    def setup(self) -> None:
        """Begin to answer for the container.

        :raises ConfigurationError: when the configuration cannot work, or an address cannot be listened on
        """
        container = self.container
        settings = HealthSettings.from_config(container.config)
        page = StatusPage(HealthAnswers(services), settings.path, PATH_KEY)
        services.add(container)
        self._told.callback(services.remove, container)
        self._told.callback(page.close)
        for key, address in settings.addresses.items():
            page.listen(str(address), key)
        if settings.on_web_server:
            page.mount(container)

    def stop(self) -> None:
        """Answer for the container no more."""
        self._told.close()

    def kill(self) -> None:
        """Answer for the container no more."""
        self.stop()
