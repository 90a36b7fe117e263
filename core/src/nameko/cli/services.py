"""`nameko services`: what services consist of, as a table, JSON or a graph."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from nameko.cli import _service_graph
from nameko.cli._service_descriptions import ExtensionDescription, ServiceDescription, describe_services
from nameko.cli._services import import_services
from nameko.config import config


def main(services: Sequence[str], format_name: str, output: BinaryIO) -> None:
    """Show the services that `services` name (`module` or `module:Class`).

    :param format_name: `table`, `json`, `mermaid`, `dot`, `svg` or `png`
    :param output: where to write
    :raises CommandError: when a service cannot be found, or graphviz is needed and missing
    :raises ConfigurationError: when a service cannot work as it is configured
    """
    rendered = _render(describe_services(import_services(services), dict(config)), format_name)
    output.write(rendered)  # which makes the file: not when there is nothing to write


def _render(services: Sequence[ServiceDescription], format_name: str) -> bytes:
    if format_name in ("svg", "png"):
        return _service_graph.picture(services, format_name)
    renderers: dict[str, Any] = {
        "table": _table,
        "json": _json,
        "mermaid": _service_graph.mermaid,
        "dot": _service_graph.dot,
    }
    text: str = renderers[format_name](services)
    return text.encode()


def _json(services: Sequence[ServiceDescription]) -> str:
    return json.dumps([service.as_data() for service in services], indent=2) + "\n"


def _table(services: Sequence[ServiceDescription]) -> str:
    return "\n".join("\n".join(_service_lines(service)) + "\n" for service in services)


def _service_lines(service: ServiceDescription) -> Iterator[str]:
    yield f"{service.name} ({service.cls})"
    for title, extensions in ("entrypoints", service.entrypoints), ("dependencies", service.dependencies):
        if extensions:
            yield f"  {title}:"
            yield from _extension_lines(extensions)


def _extension_lines(extensions: Sequence[ExtensionDescription]) -> Iterator[str]:
    names = max(len(each.name) for each in extensions)
    kinds = max(len(each.kind) for each in extensions)
    for each in extensions:
        details = "  ".join(f"{key}={value}" for key, value in each.details.items())
        yield f"    {each.name:{names}}  {each.kind:{kinds}}  {details}".rstrip()
