"""The tracer: that of whatever provider the program has set, whenever it does."""

from __future__ import annotations

from opentelemetry import trace

from nameko.plugins import installed_version

_NAME = "nameko.tracing"


def make_tracer() -> trace.Tracer:
    """The tracer of nameko. A provider that is set later counts too."""
    return trace.get_tracer(_NAME, installed_version("nameko-tracing"))


class Provider:
    """The tracer provider of the program. Where there is none, no span would be recorded, and none need be made."""

    def __init__(self) -> None:
        self._stand_in = trace.ProxyTracerProvider()
        self._was_set = False

    def is_set(self) -> bool:
        """Whether there is one by now."""
        # Where there is none, the API looks for its name in the environment each time, which takes longer than all the
        # rest. Then its stand-in tells as well: it hands out stand-ins for tracers.
        if self._was_set or not isinstance(self._stand_in.get_tracer(_NAME), trace.ProxyTracer):
            self._was_set = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        return self._was_set
