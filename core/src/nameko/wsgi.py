"""WSGI applications of extensions on the web server of their container, if it has one.

An extension that a plugin attaches to every service (`nameko_service_extensions`) serves its own pages this way. It
need not know where the web server comes from, and makes no service listen that does not::

    class Health(Extension):
        def setup(self):
            for host in wsgi_hosts(self.container):
                host.mount("/health", self.answer)

        def answer(self, environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"ok"]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from nameko.containers import ServiceContainer

#: See PEP 3333.
WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@runtime_checkable
class WsgiHost(Protocol):
    """A shared extension that serves HTTP, and WSGI applications of others below a path of theirs."""

    def mount(self, path: str, app: WsgiApplication) -> None:
        """Serve `app` at `path` and below it, with `SCRIPT_NAME` and `PATH_INFO` as PEP 3333 has them.

        `app` is called in the greenthread of the connection: it occupies no worker, and answers while all of them are
        busy. URLs that the service itself declares keep their meaning. To be called from `setup()`.

        :param path: such as `/health`
        :raises ValueError: when `path` cannot be one, or something is mounted there already
        :raises RuntimeError: when the host has started
        """


def wsgi_hosts(container: ServiceContainer) -> list[WsgiHost]:
    """The web servers of `container`: none when nothing in it serves HTTP, several only if the service has them."""
    return [each for each in container.shared_extensions.values() if isinstance(each, WsgiHost)]
