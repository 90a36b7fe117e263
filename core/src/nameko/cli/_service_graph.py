"""Who calls and listens to whom, as a Mermaid or graphviz graph."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nameko.cli._service_descriptions import ServiceDescription
from nameko.exceptions import CommandError

# Layouts of thousands of services take minutes; one that takes longer than this is stuck.
_DOT_TIMEOUT_S = 120


class Edge(NamedTuple):
    """`source` calls `target`, or dispatches events to it."""

    source: str
    target: str
    label: str
    is_event: bool


def edges(services: Iterable[ServiceDescription]) -> list[Edge]:
    """Calls and events between services, sorted, each once."""
    return sorted({edge for service in services for edge in _edges_of(service)})


def _edges_of(service: ServiceDescription) -> Iterator[Edge]:
    for dependency in service.dependencies:
        if "calls" in dependency.details:
            yield Edge(service.name, dependency.details["calls"], "calls", False)
    for entrypoint in service.entrypoints:
        if "listens_to" in entrypoint.details:
            yield Edge(entrypoint.details["listens_to"], service.name, entrypoint.details.get("event", ""), True)


def _nodes(services: Sequence[ServiceDescription]) -> dict[str, bool]:
    # Each service's name, and whether it is one of those described; the others are only heard of.
    found = {service.name: True for service in services}
    for edge in edges(services):
        found.setdefault(edge.source, False)
        found.setdefault(edge.target, False)
    return found


def mermaid(services: Sequence[ServiceDescription]) -> str:
    """The graph for Mermaid, which GitHub and many wikis draw."""
    nodes = _nodes(services)
    ids = {name: f"s{number}" for number, name in enumerate(nodes)}
    lines = ["flowchart LR"]
    lines += [f"    {ids[name]}[{_mermaid_text(name)}]" for name in nodes]
    for edge in edges(services):
        arrow = "-.->" if edge.is_event else "-->"
        lines.append(f"    {ids[edge.source]} {arrow}|{_mermaid_text(edge.label)}| {ids[edge.target]}")
    lines += [f"    style {ids[name]} stroke-dasharray: 5" for name, known in nodes.items() if not known]
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    # Mermaid takes entities in quoted text, with `#` for `&`.
    return '"' + text.replace("#", "#35;").replace('"', "#quot;") + '"'


def dot(services: Sequence[ServiceDescription]) -> str:
    """The graph for graphviz."""
    lines = ["digraph services {", "    rankdir=LR", "    node [shape=box, fontname=Helvetica]"]
    lines += [f"    {_dot_text(name)}{'' if known else ' [style=dashed]'}" for name, known in _nodes(services).items()]
    for edge in edges(services):
        style = ", style=dashed" if edge.is_event else ""
        source, target, label = (_dot_text(text) for text in (edge.source, edge.target, edge.label))
        lines.append(f"    {source} -> {target} [label={label}{style}]")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_text(text: str) -> str:
    # Strings of graphviz are those of JSON as far as quotes and backslashes go. Other characters stand for themselves.
    return json.dumps(text, ensure_ascii=False)


def picture(services: Sequence[ServiceDescription], format_name: str) -> bytes:
    """The graph drawn by graphviz.

    :param format_name: `svg` or `png`
    :raises CommandError: when graphviz is not installed, or fails
    """
    program = shutil.which("dot")
    if program is None:
        raise CommandError(
            f"--format {format_name} needs `dot` of graphviz: install it, or use --format dot or mermaid"
        )
    try:
        drawn = subprocess.run(
            [program, f"-T{format_name}"],
            input=dot(services).encode(),
            capture_output=True,
            check=True,
            timeout=_DOT_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as exc:
        raise CommandError(f"graphviz failed: {exc.stderr.decode(errors='replace').strip()}") from exc
    except subprocess.TimeoutExpired as exc:
        raise CommandError(f"graphviz has drawn nothing within {_DOT_TIMEOUT_S} s: use --format dot") from exc
    return drawn.stdout
