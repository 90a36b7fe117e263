"""Small helpers: import by path, redaction of arguments and URLs."""

from nameko.utils._imports import import_from_path
from nameko.utils._redaction import REDACTED, get_redacted_args, sanitize_url

__all__ = ["REDACTED", "get_redacted_args", "import_from_path", "sanitize_url"]
