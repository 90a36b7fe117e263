"""What services consist of, as data: for tables, JSON and graphs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from nameko.containers import ServiceContainer
from nameko.extensions import DependencyProvider, Entrypoint


@dataclass(frozen=True)
class ExtensionDescription:
    """An entrypoint or a dependency.

    :param name: the method, or the attribute
    :param kind: the name of its class
    :param details: see `nameko.extensions.Extension.describe`
    """

    name: str
    kind: str
    details: Mapping[str, str]


@dataclass(frozen=True)
class ServiceDescription:
    """A service.

    :param name: its name
    :param cls: the path of its class, `module.Class`
    """

    name: str
    cls: str
    entrypoints: Sequence[ExtensionDescription]
    dependencies: Sequence[ExtensionDescription]

    def as_data(self) -> dict[str, Any]:
        """The same in dicts and lists."""
        return asdict(self)


def describe_services(service_classes: Iterable[type], config: dict[str, Any]) -> list[ServiceDescription]:
    """Describe services, in the order given. They are bound, with what plugins attach to them, and not set up.

    :raises ConfigurationError: when a declaration cannot work with `config`
    """
    return [_describe(ServiceContainer(cls, config)) for cls in service_classes]


def _describe(container: ServiceContainer) -> ServiceDescription:
    cls = container.service_cls
    return ServiceDescription(
        container.service_name,
        f"{cls.__module__}.{cls.__qualname__}",
        _in_order(_describe_extension(each, each.method_name) for each in container.entrypoints),
        _in_order(_describe_extension(each, each.attr_name) for each in container.dependencies),
    )


def _describe_extension(extension: Entrypoint | DependencyProvider, name: str | None) -> ExtensionDescription:
    return ExtensionDescription(str(name), type(extension).__name__, _details(extension))


def _details(extension: Entrypoint | DependencyProvider) -> dict[str, str]:
    try:
        return {key: str(value) for key, value in extension.describe().items() if value}
    except Exception as exc:  # somebody's extension: the others are shown all the same
        return {"error": f"describe() raised {type(exc).__name__}: {exc}"}


def _in_order(descriptions: Iterable[ExtensionDescription]) -> list[ExtensionDescription]:
    return sorted(descriptions, key=lambda each: (each.name, each.kind, sorted(each.details.items())))
