"""What becomes of a plugin that raises in a hook: it is named in the log, and everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

_log = getLogger(__name__)


@contextmanager
def blaming(plugin: object, hook_name: str) -> Iterator[None]:
    """Log what the block raises as the plugin's failure, and go on.

    :param plugin: whom to blame, a `PluginInfo`
    :raises KeyboardInterrupt: when it is interrupted at the terminal
    :raises GreenletExit: when the greenthread is killed meanwhile
    """
    try:
        yield
    except Exception:
        _log.exception("plugin %s: %s failed and is ignored", plugin, hook_name)
    except BaseException as exc:
        if is_not_its_own(exc):
            raise
        _log.exception("plugin %s: %s failed and is ignored", plugin, hook_name)


def is_not_its_own(exc: BaseException) -> bool:
    """Whether an exception out of a hook has come from outside, to end whatever is running."""
    from nameko.concurrency import is_kill  # eventlet: nothing to be imported for a plain Exception

    return isinstance(exc, KeyboardInterrupt) or is_kill(exc)
