"""Timers: methods that run every so many seconds.

::

    class Service:
        name = "service"

        @timer(interval=1)
        def ping(self):
            print("pong")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameko.timer._timer import Timer, timer

__all__ = ["Timer", "timer"]


# Imported when first asked for: the command line imports this package to find the plugin, and must not load eventlet.
def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nameko.timer import _timer

    globals().update({public: getattr(_timer, public) for public in __all__})
    return globals()[name]
