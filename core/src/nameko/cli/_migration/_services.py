"""The service classes: whether they can be bound, and what their extensions do differently."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from typing import Any

from nameko.cli._migration._calls import ALLOW_PICKLE, RPC_TIMEOUT
from nameko.cli._migration._finding import Difference, Finding, note, shown_path
from nameko.constants import AMQP_URI_CONFIG_KEY, WEB_SERVER_CONFIG_KEY
from nameko.containers import ServiceContainer, get_container_cls
from nameko.exceptions import ConfigurationError
from nameko.extensions import Extension
from nameko.import_failures import describe_import_failure

_HTTP_MODULE = "nameko.web.server"
_HTTP_HANDLER_MODULE = "nameko.web.handlers"
_RPC_CLIENTS = ("nameko.rpc.ServiceRpc", "nameko.rpc.ClusterRpc")
_AMQP_MODULE = "nameko.amqp.broker"


def check_services(services: list[type], config: MutableMapping[str, Any]) -> Iterator[Finding]:
    """Findings in service classes, which are bound for it, as at the start of a service, and not started."""
    bound_with = {**config, ALLOW_PICKLE: True}  # whose absence is a finding in the configuration
    for service_cls in services:
        try:
            container = get_container_cls(bound_with)(service_cls, bound_with)
        except Exception as exc:  # of whatever the service's extensions do there
            text = f"the service cannot be made: {_reason(exc)}"
            yield _finding(service_cls, Difference(text, "nameko 3 refuses to start it: mend what the error names"))
        else:
            differences = (*_refused_at_start(container), *_of_container(container, config))
            yield from (_finding(service_cls, difference) for difference in differences)


def _refused_at_start(container: ServiceContainer) -> Iterator[Difference]:
    # What the web server makes of the URLs when it starts. It listens nowhere here.
    servers: set[Any] = set()
    for entrypoint in container.entrypoints:
        server: Any = getattr(entrypoint, "server", None)
        if _comes_from(server, _HTTP_MODULE):
            server.register_provider(entrypoint)
            servers.add(server)
    for server in servers:
        try:
            server.make_url_map()
        except Exception as exc:  # of whatever a subclass does there
            yield Difference(f"the service cannot be started: {_reason(exc)}", "mend the URL that the error names")


def _reason(exc: Exception) -> str:
    return str(exc) if isinstance(exc, ConfigurationError) else describe_import_failure(exc)


def _of_container(container: ServiceContainer, config: MutableMapping[str, Any]) -> Iterator[Difference]:
    # A key without a value, from a variable that is not set, is none.
    if config.get(WEB_SERVER_CONFIG_KEY) is None and _uses(container, _HTTP_MODULE):
        yield Difference(
            f"without `{WEB_SERVER_CONFIG_KEY}` the web server listens on 127.0.0.1:8000, not on 0.0.0.0:8000",
            f"set `{WEB_SERVER_CONFIG_KEY}: 0.0.0.0:8000` where other machines are to reach it, else 127.0.0.1:8000",
        )
    if any(_answers_with_an_id(extension) for extension in container.extensions):
        yield note(
            "HTTP: after an exception that is not expected the answer is 500 with an id, without the exception's text; "
            "after one of werkzeug, such as `NotFound`, it has the status of that",
            "nothing, unless clients read that text: then list the exception in `expected_exceptions` (status 400), or "
            "override `response_from_exception` in a subclass of `HttpRequestHandler`",
        )
    if config.get(RPC_TIMEOUT) is None and any(_waits_for_ever(extension) for extension in container.extensions):
        yield Difference(
            "calls of other services end with `RpcTimeout` after 300 seconds, rather than wait for ever, and what no "
            "service has taken by then is dropped",
            f"say how long they may take: configure `{RPC_TIMEOUT}`, or pass `timeout` to the `RpcProxy`, in seconds",
        )
    if not config.get(AMQP_URI_CONFIG_KEY) and _uses(container, _AMQP_MODULE):
        yield Difference(
            f"without `{AMQP_URI_CONFIG_KEY}` the broker is one within the process, not RabbitMQ on localhost",
            f"set `{AMQP_URI_CONFIG_KEY}: pyamqp://guest:guest@localhost`, or pass the configuration with --config",
        )


def _uses(container: ServiceContainer, module: str) -> bool:
    return any(_comes_from(extension, module) for extension in container.extensions)


def _comes_from(extension: object, module: str) -> bool:
    return any(cls.__module__ == module for cls in type(extension).__mro__)


def _answers_with_an_id(extension: Extension) -> bool:
    method = getattr(extension, "response_from_exception", None)
    return getattr(method, "__module__", None) == _HTTP_HANDLER_MODULE


def _waits_for_ever(extension: Extension) -> bool:
    is_client = any(f"{cls.__module__}.{cls.__qualname__}" in _RPC_CLIENTS for cls in type(extension).__mro__)
    return is_client and getattr(extension, "options", {}).get("timeout") is None


def _finding(service_cls: type, difference: Difference) -> Finding:
    file, line = _source_of(service_cls)
    place = shown_path(file) if file else f"{service_cls.__module__}:{service_cls.__qualname__}"
    text = f"service {getattr(service_cls, 'name', '?')!r}: {difference.text}"
    return replace(difference, text=text).at(place, line)


def _source_of(service_cls: type) -> tuple[str | None, int]:
    """File and line of a class; neither, when it was made at run time."""
    try:
        lines, line = inspect.getsourcelines(service_cls)
    except (OSError, TypeError):
        return None, 0
    # Python 3.13 has the line from the class, and takes it for one of the module's file, whatever stands there.
    if not any(each.lstrip().startswith(f"class {service_cls.__name__}") for each in lines):
        return None, 0
    return inspect.getsourcefile(service_cls), line
