"""Why an import failed, in one line: for plugins and for service modules."""

from __future__ import annotations

import importlib
import os
import site
import sys
import sysconfig
import traceback

#: Which distribution of ours provides which modules. The most specific name counts.
PROVIDERS = {
    "nameko.amqp": "nameko-amqp",
    "nameko.events": "nameko-events",
    "nameko.health": "nameko-health",
    "nameko.messaging": "nameko-amqp",
    "nameko.metrics": "nameko-metrics",
    "nameko.rpc": "nameko-rpc",
    "nameko.standalone.events": "nameko-events",
    "nameko.standalone.rpc": "nameko-rpc",
    "nameko.testing.rabbit": "nameko-amqp",
    "nameko.testing.websocket": "nameko-http",
    "nameko.timer": "nameko-timer",
    "nameko.tracing": "nameko-tracing",
    "nameko.web": "nameko-http",
}


def describe_import_failure(exc: BaseException) -> str:
    """What went wrong and where: `ValueError: no luck (shop/orders.py, line 12)`.

    For a module of an extension that is not installed it says what to install.
    """
    return f"{_what(exc)}{_where(exc)}"


def one_line(text: object) -> str:
    """`str(text)` with all white space, line breaks included, as single spaces."""
    return " ".join(str(text).split())


def _what(exc: BaseException) -> str:
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        module = _missing_extension(exc.name)
        if module is not None:
            return f"{module} is provided by {PROVIDERS[module]}: pip install {PROVIDERS[module]}"
    if isinstance(exc, SyntaxError):
        return f"{type(exc).__name__}: {exc.msg}"
    return one_line(f"{type(exc).__name__}: {exc}").removesuffix(":")


def _missing_extension(module_name: str) -> str | None:
    """The extension that a missing module belongs to, when that is not there either."""
    while module_name:
        if module_name in PROVIDERS:
            return None if sys.modules.get(module_name) else module_name  # imported before what is in it
        module_name = module_name.rpartition(".")[0]
    return None


def _where(exc: BaseException) -> str:
    if isinstance(exc, SyntaxError) and exc.filename:
        return f" ({_relative(exc.filename)}, line {exc.lineno})"
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if not _is_machinery(frame.filename)]
    own = [frame for frame in frames if not _is_library(frame.filename)]
    for frame in (own or frames)[-1:]:
        return f" ({_relative(frame.filename)}, line {frame.lineno})"
    return ""


def _is_machinery(filename: str) -> bool:
    # The frames of the import system, and of whoever called it on our side.
    return filename.startswith("<frozen ") or os.path.abspath(filename).startswith(_machinery())


def _machinery() -> tuple[str, ...]:
    # Looked up each time: importlib_metadata is imported when it is needed, which may be after this module.
    modules = (importlib, sys.modules.get("importlib_metadata"), sys.modules[__name__])
    return tuple(
        os.path.dirname(os.path.abspath(module.__file__)) + os.sep
        for module in modules
        if module is not None and module.__file__ is not None
    )


def _is_library(filename: str) -> bool:
    roots = [sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *_site_packages()]
    return os.path.abspath(filename).startswith(tuple(root + os.sep for root in roots))


def _site_packages() -> list[str]:
    return [*site.getsitepackages(), site.getusersitepackages()] if sys.flags.no_site == 0 else []


def _relative(filename: str) -> str:
    relative = os.path.relpath(filename)
    return filename if relative.startswith(os.pardir) else relative
