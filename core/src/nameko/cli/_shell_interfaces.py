"""The ways in which `nameko shell` reads what is typed: a script on standard input, plain, IPython, bpython."""

from __future__ import annotations

import ast
import code
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import CodeType, FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from nameko import concurrency
from nameko.cli._hub_thread import HubThread
from nameko.exceptions import CommandError

if TYPE_CHECKING:
    from nameko.cli.shell import Session


# -- plain: the main thread reads, the greenthreads of another one run what was read, and services


def run_script(session: Session) -> int:
    """Run what stands on standard input; the values of expressions are printed.

    :returns: the exit status: 1 after an exception, which is printed
    """
    with _opened_in_hub_thread(session) as (thread, names):
        try:
            for node in ast.parse(sys.stdin.read(), "<stdin>").body:
                thread.call(exec, compile(ast.Interactive([node]), "<stdin>", "single"), names)
        except Exception as exc:
            traceback.print_exception(exc.with_traceback(_without_our_frames(exc.__traceback__)))
            return 1
    return 0


def _without_our_frames(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename != "<stdin>":
        trace = trace.tb_next
    return trace


def run_plain(session: Session) -> int:
    """Python's own prompt."""
    with _opened_in_hub_thread(session) as (thread, names):
        _run_startup_file(lambda code_: thread.call(exec, code_, names))
        _enable_completion(names)
        _Console(names, thread).interact(banner=session.banner, exitmsg="")
    return 0


class _Console(code.InteractiveConsole):
    def __init__(self, names: dict[str, Any], thread: HubThread) -> None:
        super().__init__(names)
        self._thread = thread

    def runcode(self, code_: CodeType) -> None:
        self._thread.call(super().runcode, code_)


@contextmanager
def _opened_in_hub_thread(session: Session) -> Iterator[tuple[HubThread, dict[str, Any]]]:
    with HubThread() as thread:
        opened = session.opened()
        names = thread.call(opened.__enter__)
        names.update({"__name__": "__console__", "__doc__": None})
        try:
            yield thread, names
        finally:
            thread.call(opened.__exit__, None, None, None)


def _run_startup_file(execute: Callable[[CodeType], object]) -> None:
    path = os.environ.get("PYTHONSTARTUP")
    if not path:
        return
    try:
        with open(path, "rb") as file:
            execute(compile(file.read(), path, "exec"))
    except Exception as exc:  # as Python does: say so and go on
        traceback.print_exception(exc)


def _enable_completion(names: dict[str, Any]) -> None:
    try:
        import readline
    except ImportError:
        return
    import rlcompleter

    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")


# -- IPython reads with `select`, which is green, so that all can run in the main thread


def run_ipython(session: Session) -> int:
    """IPython."""
    try:
        import IPython
    except ImportError as exc:
        raise CommandError("IPython is not installed: pip install ipython") from exc
    with session.opened() as names, _green_input(), _interrupts_to_this_greenthread():
        print(session.banner)
        IPython.start_ipython(argv=[], user_ns=names, display_banner=False)
    return 0


def run_bpython(session: Session) -> int:
    """bpython. It has greenlets of its own, which greenthreads would throw out of step: the process is not patched."""
    try:
        import bpython
    except ImportError as exc:
        raise CommandError("bpython is not installed: pip install bpython") from exc
    with session.opened() as names:
        _run_startup_file(lambda code_: exec(code_, names))
        bpython.embed(locals_=names, banner=session.banner)
    return 0


@contextmanager
def _green_input() -> Iterator[None]:
    # eventlet's `select` takes the file descriptor 0 for "none" and never wakes for it. Another one does.
    with os.fdopen(os.dup(sys.stdin.fileno()), encoding=sys.stdin.encoding) as stdin:
        previous = sys.stdin, sys.__stdin__
        sys.stdin = sys.__stdin__ = stdin  # type: ignore[misc]
        try:
            yield
        finally:
            sys.stdin, sys.__stdin__ = previous  # type: ignore[misc]


@contextmanager
def _interrupts_to_this_greenthread() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt here, whichever greenthread has the turn, and in no other."""
    me = concurrency.current()
    os_: Any = concurrency.original("os")
    read_fd, write_fd = os_.pipe()

    def handle(number: int, frame: FrameType | None) -> None:
        if concurrency.current() is me:
            raise KeyboardInterrupt
        os_.write(write_fd, b".")

    def listen() -> None:
        while True:
            concurrency.wait_readable(read_fd)
            os_.read(read_fd, 1)
            concurrency.kill(me, KeyboardInterrupt)

    listener = concurrency.spawn(listen)
    previous = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        listener.kill()
        os_.close(read_fd)
        os_.close(write_fd)


INTERFACES: Mapping[str, Callable[[Session], int]] = {
    "ipython": run_ipython,
    "bpython": run_bpython,
    "plain": run_plain,
}
