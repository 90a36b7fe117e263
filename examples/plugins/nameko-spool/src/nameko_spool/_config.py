"""The configuration key."""

INTERVAL_KEY = "SPOOL_INTERVAL_S"
DEFAULT_INTERVAL_S = 1.0
