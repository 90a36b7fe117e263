"""The process-wide configuration: `from nameko import config` is a mapping.

::

    from nameko import config
    config["AMQP_URI"]
    config.setup({...})              # replace everything
    with config.patch({...}): ...    # change for a while; also a decorator, and has start() and stop()
"""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Mapping
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any


class Config(UserDict[str, Any]):
    """A mapping of configuration keys to their values."""

    @property
    def config(self) -> Config:
        """Itself: what `from nameko.config import config` finds, since this object stands in for its module."""
        return self

    def __repr__(self) -> str:
        from nameko.masking import mask_config  # only for whoever looks: a shell, a traceback, a log

        return f"<Config {mask_config(self.data)}>"

    def setup(self, values: Mapping[str, Any]) -> None:
        """Replace everything by `values`."""
        self.data = dict(values)

    def patch(self, values: Mapping[str, Any], clear: bool = False) -> Patch:
        """Change some keys for a while.

        :param clear: leave out everything that is not in `values`
        :returns: a context manager, which also decorates functions and has `start()` and `stop()`
        """
        return Patch(self, values, clear)


class Patch(ContextDecorator):
    """A temporary change of a `Config`."""

    def __init__(self, target: Config, values: Mapping[str, Any], clear: bool) -> None:
        self._target = target
        self._values = values
        self._clear = clear
        self._saved: list[dict[str, Any]] = []

    def start(self) -> None:
        """Make the change."""
        self._saved.append(self._target.data)
        self._target.data = {**({} if self._clear else self._target.data), **self._values}

    def stop(self) -> None:
        """Take it back."""
        self._target.data = self._saved.pop()

    def __enter__(self) -> None:
        self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


config = Config()
# `nameko` is a namespace package and cannot define `config` itself; the import system hands out whatever a module has
# put into `sys.modules` under its own name.
sys.modules[__name__] = config  # type: ignore[assignment]
