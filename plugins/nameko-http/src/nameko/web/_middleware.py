"""What stands between the server and the application: configured WSGI middleware, trusted proxies, CORS."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from nameko.exceptions import ConfigurationError
from nameko.utils import import_from_path
from nameko.web._cors import Cors
from nameko.web._environ import Environ
from nameko.web._settings import HttpSettings
from nameko.wsgi import WsgiApplication

_UNIX_PEER = "unix"


def wrap(app: WsgiApplication, settings: HttpSettings) -> WsgiApplication:
    """`app` within the middleware that `settings` ask for; itself when they ask for none.

    :raises ConfigurationError: when one of them cannot be made
    """
    for item in reversed(settings.middleware):
        app = _configured(item)(app)
    if settings.cors is not None:
        app = Cors(app, settings.cors)
    if settings.trusted_proxies:
        app = TrustedProxies(app, settings.trusted_proxies)
    return app


def _configured(item: Any) -> Callable[[WsgiApplication], WsgiApplication]:
    path, options = _path_and_options(item)
    try:
        factory = import_from_path(path)
    except ImportError as exc:
        raise ConfigurationError(f"WEB_SERVER_MIDDLEWARE: {path} cannot be imported: {exc}") from exc

    def make(app: WsgiApplication) -> WsgiApplication:
        try:
            return factory(app, **options)  # type: ignore[no-any-return]
        except TypeError as exc:
            raise ConfigurationError(f"WEB_SERVER_MIDDLEWARE: {path} cannot be made: {exc}") from exc

    return make


def _path_and_options(item: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(item, str):
        return item, {}
    if isinstance(item, Mapping) and len(item) == 1:
        ((path, options),) = item.items()
        if isinstance(path, str) and (options is None or isinstance(options, Mapping)):
            return path, dict(options or {})
    raise ConfigurationError(f"WEB_SERVER_MIDDLEWARE: {item!r} should be a dotted path, or `path: {{option: value}}`.")


class TrustedProxies:
    """Believes `X-Forwarded-For`, `-Proto`, `-Host`, `-Port` and `-Prefix`, if they come from a known proxy.

    :param proxies: addresses and networks of proxies; `unix` for whoever connects to a Unix socket
    :raises ConfigurationError: when one of them is no address
    """

    def __init__(self, app: WsgiApplication, proxies: Sequence[str]) -> None:
        self._app = app
        self._behind_proxy = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1)
        self._unix = _UNIX_PEER in proxies
        self._networks = [_network(proxy) for proxy in proxies if proxy != _UNIX_PEER]

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._trusts(environ["REMOTE_ADDR"]):
            return self._behind_proxy(environ, start_response)
        return self._app(environ, start_response)

    def _trusts(self, peer: str) -> bool:
        if not peer:
            return self._unix
        address = ipaddress.ip_address(peer.partition("%")[0])
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


def _network(proxy: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(proxy)
    except ValueError as exc:
        raise ConfigurationError(f"WEB_SERVER_TRUSTED_PROXIES: {proxy!r} is no address or network: {exc}") from None
