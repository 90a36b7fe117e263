"""Those of `nameko.concurrency` that nameko 2.14 has here."""

from nameko.concurrency import SpawningProxy, SpawningSet, fail_fast_imap

__all__ = ["SpawningProxy", "SpawningSet", "fail_fast_imap"]
