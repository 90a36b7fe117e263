"""Extensions that others have published install over this framework, all into one environment, and are imported."""

from __future__ import annotations

import json
from collections.abc import Callable

#: What people import of each.
MODULES = {
    "django-nameko": [],  # wants its settings first: see django_site.py
    "flask-nameko": ["flask_nameko"],
    "nameko-amqp-retry": ["nameko_amqp_retry.events", "nameko_amqp_retry.messaging", "nameko_amqp_retry.rpc"],
    "nameko-atomicity": ["nameko_atomicity"],
    "nameko-cachetools": ["nameko_cachetools"],
    "nameko-cron": ["nameko_cron"],
    "nameko-grpc": ["nameko_grpc.client", "nameko_grpc.dependency_provider", "nameko_grpc.entrypoint"],
    "nameko-injector": ["nameko_injector.core"],
    "nameko-prometheus": ["nameko_prometheus"],
    "nameko-redis-py": ["nameko_redis", "nameko_redis.pubsub_response_listener"],
    "nameko-sentry": ["nameko_sentry"],
    "nameko-slack": ["nameko_slack.rtm", "nameko_slack.web"],
    "nameko-sqlalchemy": ["nameko_sqlalchemy"],
    "nameko-statsd": ["nameko_statsd"],
    "nameko-structlog": ["nameko_structlog"],
    "nameko-tracer": ["nameko_tracer", "nameko_tracer.adapters", "nameko_tracer.formatters"],
}

INSPECT = """
import importlib.metadata, json, nameko
print(json.dumps({
    "file": getattr(nameko, "__file__", None),
    "versions": {each.name.lower(): each.version for each in importlib.metadata.distributions()},
}))
"""

IMPORT = """
import importlib, json, sys, traceback
failures = {}
for name, modules in json.loads(sys.argv[1]).items():
    try:
        for module in modules:
            importlib.import_module(module)
    except Exception:
        failures[name] = traceback.format_exc()
print(json.dumps(failures))
"""


def test_the_framework_is_ours(run_python: Callable[..., str]) -> None:
    found = json.loads(run_python("-c", INSPECT))
    assert found["file"] is None  # a namespace: the old framework's __init__.py is not there
    assert {name for name, version in found["versions"].items() if version == "3.0.0"} >= {"nameko", "nameko-core"}
    assert {name.replace("_", "-") for name in found["versions"]} >= set(MODULES)


def test_each_is_imported(run_python: Callable[..., str]) -> None:
    assert json.loads(run_python("-c", IMPORT, json.dumps(MODULES))) == {}
