"""What is attached to every service: observes its workers, and shows the metrics where they are wanted."""

from __future__ import annotations

from contextlib import ExitStack
from logging import getLogger

from prometheus_client import make_wsgi_app

from nameko.extensions import Extension
from nameko.metrics._collector import collector
from nameko.metrics._settings import ADDRESS_KEY, PATH_KEY, MetricsSettings
from nameko.metrics._workers import WorkerObserver
from nameko.plugins import Stat
from nameko.status_server import StatusPage
from nameko.worker_processes import worker_count
from nameko.wsgi import wsgi_hosts

_log = getLogger("nameko.metrics")


class ServiceMetrics(Extension):
    """The metrics of one container."""

    def __init__(self) -> None:
        self.name = ""
        self.buckets_s: tuple[float, ...] = ()
        self.workers = WorkerObserver((), ())
        self._attached = ExitStack()

    def setup(self) -> None:
        """Begin to observe, and to show the metrics.

        :raises ConfigurationError: when the configuration cannot work, or an address cannot be listened on
        """
        container = self.container
        settings = MetricsSettings.from_config(container.config)
        self.name = container.service_name
        self.buckets_s = settings.buckets_s
        self.workers = WorkerObserver(container.entrypoints, settings.buckets_s)
        self._attached.callback(collector.remove, self)
        collector.add(self)
        self._attached.enter_context(
            container.observers.attached(
                "metrics (nameko-metrics)",
                worker_started=self.workers.worker_started,
                worker_finished=self.workers.worker_finished,
            )
        )
        self._show(settings)

    def _show(self, settings: MetricsSettings) -> None:
        page = StatusPage(make_wsgi_app(), settings.path, PATH_KEY)
        self._attached.callback(page.close)
        if settings.address is not None:
            page.listen(settings.address, ADDRESS_KEY)
        if settings.on_web_server and worker_count() == 1:
            page.mount(self.container)
        elif settings.on_web_server and settings.address is None and wsgi_hosts(self.container):
            _log.warning("metrics are not shown on a web server that processes share: set %s", ADDRESS_KEY)

    def stop(self) -> None:
        """Stop observing and showing."""
        self._attached.close()

    def kill(self) -> None:
        """Stop observing and showing."""
        self.stop()

    # -- for whoever collects

    @property
    def is_alive(self) -> bool:
        """Whether the container is still there: one that was given up without being stopped is not."""
        try:
            return bool(self.container.service_name)
        except ReferenceError:
            return False

    def stats(self) -> list[Stat]:
        """The numbers that plugins give about the container."""
        return self.container.plugins.stats(self.container)
