"""The configuration key."""

URL_KEY = "DATABASE_URL"
