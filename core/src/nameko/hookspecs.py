"""The hooks: everything that a plugin can take part in.

A plugin is a module (or object) named by an entry point in the group `nameko`::

    [project.entry-points.nameko]
    audit = "acme.nameko_audit"

It implements any of the functions below, marked with `nameko.plugins.hookimpl`. An implementation takes the arguments
of its hook by name and may leave out those that it does not need. Its plugin module is imported by most `nameko`
commands, before any service: it should itself import little, and the rest inside its functions.

Plugins are called in the order of their names; `@hookimpl(tryfirst=True)` and `@hookimpl(trylast=True)` change it.
Wrappers (`wrapper=True`) are refused.

An implementation that raises is logged with its plugin's name, distribution and version, and what it would have
contributed is missing; where more than that happens, the hook says so. That goes for whatever it raises, `SystemExit`,
a `Timeout` of its own, or a `GreenletExit` from waiting for a greenthread that was killed. What comes from outside is
passed on: the kill of the greenthread in which it runs, a `Timeout` that its caller has made, Ctrl-C at a terminal.

Two kinds of hooks: *declarations* are called in the main greenthread, at start or for the command line. *Observers*
(`nameko_container_*`, `nameko_worker_*`, `nameko_call_*`) are called where the thing happens, and what they return is
ignored. An observer may block: it then holds up that container, worker or call, and no other. One that goes on failing
is logged with its traceback at first, and then by a line every five seconds at most, which counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from nameko.containers import ServiceContainer, WorkerContext
    from nameko.extensions import ExcInfo, Extension
    from nameko.outgoing_calls import OutgoingCall
    from nameko.plugins import ConfigKey, ExtensionInfo, RunOption, Stat

PROJECT_NAME = "nameko"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)


@hookspec
def nameko_extensions() -> Sequence[ExtensionInfo]:  # type: ignore[empty-body]
    """List the extension classes that the plugin offers.

    Fires: for `nameko plugins --verbose` and the documentation, in the main greenthread. Never on `nameko run`: it may
    import the extensions' modules.

    :returns: each class with one line of help
    """


@hookspec
def nameko_config_keys() -> Sequence[ConfigKey]:  # type: ignore[empty-body]
    """Declare the configuration keys that the plugin reads.

    A key that is declared is checked for its type, suggested for a misspelt one, shown by `nameko show-config`, and
    hidden there when it is declared secret.

    Fires: once for each command that reads the configuration, before a service is imported, in the main greenthread.

    :returns: the keys; when two plugins declare the same one, the first declaration counts
    """


@hookspec
def nameko_commands(cli: click.Group) -> None:
    """Add commands to the command line: `cli.add_command(...)` or `@cli.command()`.

    Fires: when a command is typed that is not built in, and for `nameko plugins --verbose`; not for `nameko --help`. In
    the main greenthread; nothing is monkey patched, and `ctx.obj` of the command holds the options given to `nameko`.

    :param cli: an empty group of the plugin's own. A built-in command wins over one of the same name, and the plugin
        that comes first over another; the loser is named on stderr.
    """


@hookspec
def nameko_run_options() -> Sequence[RunOption]:  # type: ignore[empty-body]
    """Add options to `nameko run` and `nameko shell` that set configuration keys.

    Fires: when the command line of `nameko run` or `nameko shell` is read, with the standard library monkey patched, in
    the main greenthread.

    :returns: the options; a flag that is already taken is skipped, with a warning
    """


@hookspec
def nameko_shell_namespace(config: Mapping[str, Any], exit_stack: ExitStack) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Add attributes to the object `n` of `nameko shell`.

    Fires: before the first prompt, and again after each `n.disconnect()`, in a greenthread of the native thread that
    runs what is typed.

    :param config: the configuration in effect
    :param exit_stack: closed by `n.disconnect()` and at the end of the shell: register what has to be released
    :returns: names and objects. Making them must not connect to anything: the shell has to open without a broker.
        A `ConfigurationError` is its user's mistake: the shell ends with that line.
    """


@hookspec
def nameko_service_extensions(  # type: ignore[empty-body]
    service_cls: type, config: Mapping[str, Any]
) -> Mapping[str, Extension]:
    """Attach extensions to a service without touching its code.

    Fires: while the container of the service is built, after the service's own extensions are bound, in the
    greenthread that builds it.

    :param service_cls: the service class, which must not be changed
    :param config: the configuration of the container
    :returns: unbound extensions by name. A `DependencyProvider` is injected as the attribute of that name, an
        `Entrypoint` runs the method of that name, another extension is only set up, started and stopped. A name
        that the service class, or a plugin before, already uses for something else is skipped, with an error in the
        log, and so is what cannot be bound. A `ConfigurationError` from `bind` refuses the service, though, and from
        then on it is an extension like any other: when it fails to set up or start, the service does not start.
    """


@hookspec
def nameko_container_started(container: ServiceContainer) -> None:
    """Observe that a container has started: all its extensions are set up and started.

    Fires: at the end of `ServiceContainer.start()`, in its greenthread. Not when starting fails.

    :param container: the container
    """


@hookspec
def nameko_container_stopped(container: ServiceContainer) -> None:
    """Observe that a container has stopped in an orderly way: workers done, extensions stopped.

    Fires: at the end of `ServiceContainer.stop()`, in a greenthread of the container, once. Not when the container was
    killed. It has what is left of `SHUTDOWN_TIMEOUT`.

    :param container: the container
    """


@hookspec
def nameko_container_killed(container: ServiceContainer, exc_info: ExcInfo | None) -> None:
    """Observe that a container was killed, by `kill()` or by an error in an extension or a managed thread.

    Fires: at the end of `ServiceContainer.kill()`, in a greenthread of the container, once. It has to return at once.

    :param container: the container
    :param exc_info: the exception that was the reason, as `sys.exc_info()` gives it; None when there was none
    """


@hookspec
def nameko_worker_started(worker_ctx: WorkerContext) -> None:
    """Observe that a worker is about to run its method: its dependencies are injected and set up.

    Fires: in the worker's greenthread. Time spent here is part of the worker's duration.

    :param worker_ctx: the worker
    """


@hookspec
def nameko_worker_result(worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None) -> None:
    """Observe the outcome of a worker's method, which the entrypoint has dealt with (a reply is sent).

    Fires: in the worker's greenthread, whether the method returned or raised.

    :param worker_ctx: the worker
    :param result: what the method returned, or what the entrypoint has made of it; None when it raised. It must not be
        changed.
    :param exc_info: what the method raised, as `sys.exc_info()` gives it; None when it returned. Keeping it keeps the
        worker's frames alive.
    """


@hookspec
def nameko_worker_finished(worker_ctx: WorkerContext, result: Any, exc_info: ExcInfo | None, duration_s: float) -> None:
    """Observe the end of a worker: its dependencies are torn down, its slot is about to be freed.

    Fires: in the worker's greenthread. Not when the worker was killed, or when a dependency failed: the container is
    then killed, and `nameko_container_killed` fires.

    :param worker_ctx: the worker
    :param result: as in `nameko_worker_result`
    :param exc_info: as in `nameko_worker_result`
    :param duration_s: seconds from the set-up of the dependencies to their teardown, by a monotonic clock
    """


@hookspec
def nameko_call_started(call: OutgoingCall) -> None:
    """Observe that a request, an event or a message is about to be sent, and add to its headers.

    By workers, and by programs that are no services: the standalone RPC proxies and `event_dispatcher` call the
    plugins that are installed, as the configuration selects them. Replies, and messages that are tried again, are no
    calls.

    Fires: in the greenthread or thread that makes the call, before the message is made.

    :param call: what is sent: `kind` is `"rpc"`, `"event"` or `"message"`; `destination` is the service called, or
        the name of the exchange; `operation` is the method, the type of the event, or the routing key; `worker_ctx` is
        the worker that calls, None where none does; `config` is the configuration. What is put into its `headers`,
        strings by their names and 8 KiB at most, travels in the headers of the message, before what has the same name
        there.
    """


@hookspec
def nameko_call_finished(call: OutgoingCall, exc_info: ExcInfo | None, duration_s: float) -> None:
    """Observe the outcome of a call: a request has its reply or will get none, a message is safe with the broker.

    Fires: once for each `nameko_call_started`. Mostly in the greenthread or thread that has made the call. For
    `call_async` of a worker, in a greenthread of its own as soon as the outcome is there; for that of a standalone
    proxy, when somebody asks for the result, or nobody can any more. For a message with `use_confirms=False`, when it
    is handed over.

    :param call: the object that `nameko_call_started` was given
    :param exc_info: what the caller gets raised, as `sys.exc_info()` gives it: the remote method's exception, or why
        there is no reply, or no confirm; None when the call succeeded
    :param duration_s: seconds since `nameko_call_started`, by a monotonic clock
    """


@hookspec
def nameko_ready(container: ServiceContainer) -> Sequence[str]:  # type: ignore[empty-body]
    """Say what keeps a container from serving right now: a lost connection, a queue that is not consumed.

    Fires: whenever `ServiceContainer.not_ready_reasons()` is asked, in the greenthread that asks; it must answer at
    once and not block. An implementation that raises counts as a reason, since it cannot vouch for the container.

    :param container: the container
    :returns: one line for each reason; empty when there is none
    """


@hookspec
def nameko_stats(container: ServiceContainer) -> Sequence[Stat]:  # type: ignore[empty-body]
    """Give numbers about a container: how much there is of something right now, or has been since its start.

    Fires: whenever somebody who shows them asks, nameko-metrics at each scrape for example, in the greenthread that
    asks; it must answer at once and not block. Nobody asks when nothing shows them, so count where it happens only
    what cannot be told later.

    :param container: the container
    :returns: the numbers. The container's service need not be among their labels: whoever shows them adds it
    """
