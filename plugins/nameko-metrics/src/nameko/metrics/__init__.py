"""Metrics of services for Prometheus: workers, connections, messages, the process.

Installing the distribution is enough: every service is observed. The metrics stand in `prometheus_client.REGISTRY`,
next to those that a service defines itself with that library.
"""
