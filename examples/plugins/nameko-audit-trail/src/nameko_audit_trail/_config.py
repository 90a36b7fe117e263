"""The configuration key."""

FILE_KEY = "AUDIT_FILE"
