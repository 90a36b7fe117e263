"""The tracer: that of whatever provider the program has set, whenever it does."""

from __future__ import annotations

from opentelemetry import trace

from nameko.plugins import installed_version


def make_tracer() -> trace.Tracer:
    """The tracer of nameko. A provider that is set later counts too."""
    return trace.get_tracer("nameko.tracing", installed_version("nameko-tracing"))


def has_provider() -> bool:
    """Whether a tracer provider is set. Without one no span would be recorded, and none need be made."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
