"""What becomes of a plugin that raises in a hook: it is named in the log, and everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger
from time import monotonic

_log = getLogger(__name__)


@contextmanager
def blaming(
    plugin: object, hook_name: str, let_through: type[Exception] | tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Log what the block raises as the plugin's failure, and go on.

    :param plugin: whom to blame, a `PluginInfo`
    :param let_through: what is no failure of the plugin's, and raised
    :raises KeyboardInterrupt: when it is interrupted at the terminal
    :raises GreenletExit: when the greenthread is killed meanwhile
    :raises Timeout: when one strikes that was made before
    """
    since_s = monotonic()
    try:
        yield
    except let_through:
        raise
    except BaseException as exc:
        if is_not_its_own(exc, since_s):
            raise
        _log.exception("plugin %s: %s failed and is ignored", plugin, hook_name)


def is_not_its_own(exc: BaseException, since_s: float) -> bool:
    """Whether an exception out of a hook that was called at `since_s` has come from outside, to end what is running."""
    if isinstance(exc, Exception):
        return False
    from nameko.concurrency import is_from_outside  # eventlet: nothing to be imported for a plain Exception

    return is_from_outside(exc, since_s)
