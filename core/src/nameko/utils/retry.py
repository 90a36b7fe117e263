"""`nameko.retry`, where nameko 2.14 has it."""

from nameko.retry import retry

__all__ = ["retry"]
