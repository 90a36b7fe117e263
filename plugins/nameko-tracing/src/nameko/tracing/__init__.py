"""Tracing with OpenTelemetry: a span for each worker and for each outgoing call, one trace across all services.

There is nothing to import from here: installed beside nameko, it is switched on. Which tracer provider, sampler,
exporter and propagators there are is what the program says, through OpenTelemetry's own API.
"""
