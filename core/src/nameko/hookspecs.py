"""The hooks: everything that a plugin can take part in.

A plugin is a module (or object) named by an entry point in the group `nameko`. It implements any of these functions,
marked with `nameko.plugins.hookimpl`, and may leave out arguments that it does not need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from nameko.containers import ServiceContainer, WorkerContext
    from nameko.extensions import ExcInfo, Extension
    from nameko.plugins import ConfigKey, ExtensionInfo, RunOption

PROJECT_NAME = "nameko"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)


@hookspec
def nameko_extensions() -> Sequence[ExtensionInfo]:  # type: ignore[empty-body]
    """The extension classes that the plugin offers, each with one line of help."""


@hookspec
def nameko_config_keys() -> Sequence[ConfigKey]:  # type: ignore[empty-body]
    """The configuration keys that the plugin reads."""


@hookspec
def nameko_commands(cli: click.Group) -> None:
    """Add commands to the command line."""


@hookspec
def nameko_run_options() -> Sequence[RunOption]:  # type: ignore[empty-body]
    """Options for `nameko run` and `nameko shell` that set configuration keys."""


@hookspec
def nameko_shell_namespace(config: Mapping[str, Any]) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Attributes of the object `n` in `nameko shell`."""


@hookspec
def nameko_service_extensions(  # type: ignore[empty-body]
    service_cls: type, config: Mapping[str, Any]
) -> Mapping[str, Extension]:
    """Extensions to attach to every service."""


@hookspec
def nameko_container_started(container: ServiceContainer) -> None:
    """The container has started."""


@hookspec
def nameko_container_stopped(container: ServiceContainer) -> None:
    """The container has stopped in an orderly way."""


@hookspec
def nameko_container_killed(container: ServiceContainer, exc_info: ExcInfo | None) -> None:
    """The container was killed."""


@hookspec
def nameko_worker_started(worker_ctx: WorkerContext) -> None:
    """A worker is set up and about to run its method."""


@hookspec
def nameko_worker_result(worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
    """A worker's method has ended, and its entrypoint has dealt with the outcome."""


@hookspec
def nameko_worker_finished(
    worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None, duration_s: float
) -> None:
    """A worker is done, its dependencies torn down."""


@hookspec
def nameko_ready(container: ServiceContainer) -> Sequence[str]:  # type: ignore[empty-body]
    """Why the container cannot serve right now, one line each; empty when it can."""
