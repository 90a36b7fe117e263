"""Finding service classes: `module`, which stands for all of its classes with entrypoints, or `module:Class`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

from nameko.cli._working_directory import keep_standard_library
from nameko.containers import get_service_name
from nameko.exceptions import CommandError
from nameko.extensions import ENTRYPOINT_EXTENSIONS_ATTR
from nameko.import_failures import describe_import_failure
from nameko.suggestions import did_you_mean

#: What to do about two services of one name.
NAMESAKES_REMEDY = "name the one to run as module:Class"


class ModuleFailsError(CommandError):
    """A module is there, and raises when it is imported."""


def import_services(specs: Iterable[str]) -> list[type]:
    """The service classes that `specs` name, each once.

    :raises CommandError: see `import_service`; and when two different classes have the same service name
    :raises ConfigurationError: when a class has no name
    """
    by_name: dict[str, type] = {}
    for spec in specs:
        for cls in import_service(spec):
            other = by_name.setdefault(get_service_name(cls), cls)
            if other is not cls:
                raise CommandError(f"{describe_namesakes(other, cls)}; {NAMESAKES_REMEDY}")
    return list(by_name.values())


def describe_namesakes(first: type, second: type) -> str:
    """That two different classes have the same service name."""
    return f"two services are called {get_service_name(second)!r}: {_path(first)} and {_path(second)}"


def import_service(spec: str) -> list[type]:
    """The service classes that `module` or `module:Class` names.

    :raises CommandError: when there is no such module or class, when the module fails on import, or when it holds no
        class with entrypoints. The message is one line.
    """
    module_name, colon, class_name = spec.partition(":")
    module = import_module(module_name)
    if colon:
        return [_find_class(module, module_name, class_name)]
    classes = classes_with_entrypoints(module)
    if not classes:
        raise CommandError(f"no services in module {module_name!r}: no class there has a method with an entrypoint")
    return classes


def import_module(name: str) -> ModuleType:
    """The module `name`, of the current directory or from the Python path.

    :raises CommandError: when there is no such module; a `ModuleFailsError` when it fails on import
    """
    _refuse_path(name)
    try:
        return _import_local(name) or importlib.import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and (name == exc.name or name.startswith(f"{exc.name}.")):
            raise CommandError(f"no module named {exc.name!r} on the Python path or in {os.getcwd()}") from exc
        raise ModuleFailsError(f"module {name!r} cannot be imported: {describe_import_failure(exc)}") from exc
    except (Exception, SystemExit) as exc:
        raise ModuleFailsError(f"module {name!r} cannot be imported: {describe_import_failure(exc)}") from exc


def _refuse_path(name: str) -> None:
    if name.endswith(".py") or "/" in name:
        module_name = os.path.relpath(name.removesuffix(".py")).replace(os.sep, ".")
        if os.path.exists(name) or name.endswith(".py"):
            raise CommandError(f"Failed to find service {name!r}, did you mean {module_name!r}?")
    if not all(part.isidentifier() for part in name.split(".")):
        raise CommandError(f"{name!r} is not the name of a module")


def _import_local(name: str) -> ModuleType | None:
    """The module `name`.py of the current directory when the standard library has one of that name; otherwise None.

    The module is not entered in `sys.modules`: whoever imports that name goes on getting the standard library's.
    """
    path = os.path.abspath(f"{name}.py")
    if name not in sys.stdlib_module_names or not os.path.exists(path):
        return None
    keep_standard_library(name)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _find_class(module: ModuleType, module_name: str, class_name: str) -> type:
    cls = getattr(module, class_name, None)
    if inspect.isclass(cls):
        return cls
    if cls is not None:
        raise CommandError(f"{class_name!r} in module {module_name!r} is not a class")
    classes = [name for name, _ in inspect.getmembers(module, inspect.isclass)]
    raise CommandError(f"no class {class_name!r} in module {module_name!r}{did_you_mean(class_name, classes)}")


def classes_with_entrypoints(module: ModuleType) -> list[type]:
    """The classes in `module`, its own and those that it imports, that are services."""
    found = [cls for _, cls in inspect.getmembers(module, inspect.isclass) if any(_entrypoints(cls))]
    classes = list(dict.fromkeys(found))
    # A base class without a name that another one there derives from is no service itself.
    return [cls for cls in classes if not (_nameless(cls) and any(_derives(other, cls) for other in classes))]


def _entrypoints(cls: type) -> Iterator[object]:
    for _, method in inspect.getmembers(cls, inspect.isfunction):
        yield from getattr(method, ENTRYPOINT_EXTENSIONS_ATTR, ())


def _nameless(cls: type) -> bool:
    return getattr(cls, "name", None) is None


def _derives(cls: type, base: type) -> bool:
    return cls is not base and issubclass(cls, base)


def _path(cls: type) -> str:
    return f"{cls.__module__}:{cls.__name__}"
