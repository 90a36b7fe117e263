"""Import by path."""

from __future__ import annotations

import importlib
from typing import Any


def import_from_path(path: str | None) -> Any:
    """The object at the dotted `path`, `"package.module.name"`; None for None.

    :raises ImportError: when there is no such module, or no such name in it
    """
    if path is None:
        return None
    module_path, _, name = path.rpartition(".")
    if not module_path:
        raise ImportError(f"`{path}` is not the path of an object in a module")
    try:
        return getattr(importlib.import_module(module_path), name)
    except AttributeError:
        raise ImportError(f"`{path}`: module `{module_path}` has no `{name}`") from None


import_from_path.__module__ = "nameko.utils"
