"""Names and defaults that several modules share: configuration keys, context data keys, delivery modes."""

from __future__ import annotations

from typing import Final

# Configuration keys of the core. Those of a plugin are declared by the plugin (`nameko_config_keys`); the AMQP and web
# names stand here too because nameko 2.14 has them here.
AMQP_URI_CONFIG_KEY: Final = "AMQP_URI"
AMQP_SSL_CONFIG_KEY: Final = "AMQP_SSL"
LOGIN_METHOD_CONFIG_KEY: Final = "LOGIN_METHOD"
TRANSPORT_OPTIONS_CONFIG_KEY: Final = "TRANSPORT_OPTIONS"
HEARTBEAT_CONFIG_KEY: Final = "HEARTBEAT"
PREFETCH_COUNT_CONFIG_KEY: Final = "PREFETCH_COUNT"
RPC_EXCHANGE_CONFIG_KEY: Final = "rpc_exchange"
SERIALIZER_CONFIG_KEY: Final = "serializer"
SERIALIZERS_CONFIG_KEY: Final = "SERIALIZERS"
ACCEPT_CONFIG_KEY: Final = "ACCEPT"
MAX_WORKERS_CONFIG_KEY: Final = "max_workers"
PARENT_CALLS_CONFIG_KEY: Final = "parent_calls_tracked"
SHUTDOWN_TIMEOUT_CONFIG_KEY: Final = "SHUTDOWN_TIMEOUT"
SERVICE_CONTAINER_CONFIG_KEY: Final = "SERVICE_CONTAINER_CLS"
WEB_SERVER_CONFIG_KEY: Final = "WEB_SERVER_ADDRESS"

DEFAULT_AMQP_URI: Final = "pyamqp://guest:guest@localhost"
DEFAULT_HEARTBEAT: Final = 60  # seconds
DEFAULT_MAX_WORKERS: Final = 10
DEFAULT_PARENT_CALLS_TRACKED: Final = 10
DEFAULT_PREFETCH_COUNT: Final = 10
DEFAULT_RETRY_POLICY: Final = {"max_retries": 3}  # of nameko 2.14's publishers, for extensions that pass it on
DEFAULT_SERIALIZER: Final = "json"
DEFAULT_SHUTDOWN_TIMEOUT_S: Final = 30
# Waits in seconds, as kombu's `ensure_connection` takes them.
DEFAULT_TRANSPORT_OPTIONS: Final = {"max_retries": 3, "interval_start": 2, "interval_step": 1, "interval_max": 5}

CALL_ID_STACK_CONTEXT_KEY: Final = "call_id_stack"
AUTH_TOKEN_CONTEXT_KEY: Final = "auth_token"
LANGUAGE_CONTEXT_KEY: Final = "language"
USER_ID_CONTEXT_KEY: Final = "user_id"
USER_AGENT_CONTEXT_KEY: Final = "user_agent"
HEADER_PREFIX: Final = "nameko"

# AMQP 0-9-1 delivery modes.
NON_PERSISTENT: Final = 1
PERSISTENT: Final = 2
