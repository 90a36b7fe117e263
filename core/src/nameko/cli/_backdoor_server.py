"""A Python prompt inside a running process, for whoever connects to its socket.

The prompt has the rights of the process. So it is off unless asked for, and then a Unix socket for its user alone, or a
TCP port of the loopback interface.
"""

from __future__ import annotations

import code
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from logging import getLogger
from typing import Any, NoReturn, TextIO

from nameko import concurrency
from nameko.cli._backdoor_address import parse_loopback_address, socket_path
from nameko.concurrency import socket
from nameko.unix_sockets import bind_privately

_log = getLogger(__name__)

#: What a client sends in place of a line to discard what was typed so far.
INTERRUPT = "\x03"


@contextmanager
def open_backdoors(port: str | int | None, on_unix_socket: bool, namespace: Mapping[str, Any]) -> Iterator[None]:
    """Offer a prompt for the length of the block.

    :param port: `[host:]port` of a TCP socket; none when it is None
    :param on_unix_socket: whether to offer it on a Unix socket, too
    :param namespace: the names that the prompt knows
    :raises ConfigurationError: when the address is not one of the loopback interface
    :raises OSError: when it cannot be listened on
    """
    with ExitStack() as stack:
        listeners = []
        if on_unix_socket:
            listeners.append(stack.enter_context(_listen_on_unix_socket(socket_path(os.getpid()))))
            _log.info("backdoor: nameko backdoor %d", os.getpid())
        if port is not None:
            listeners.append(stack.enter_context(_listen_on_tcp(*parse_loopback_address(port))))
            _log.info("backdoor: nameko backdoor %s:%d", *listeners[-1].getsockname()[:2])
        output = stack.enter_context(_routed_output())
        server = _Server(namespace, output)
        stack.callback(server.close)
        for listener in listeners:
            server.serve(listener)
        yield


@contextmanager
def _listen_on_unix_socket(path: str) -> Iterator[Any]:
    with suppress(FileNotFoundError):
        os.unlink(path)  # of a process that had the same id and was killed
    with socket.socket(socket.AF_UNIX) as listener:
        bind_privately(listener, path)
        listener.listen()
        try:
            yield listener
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)


@contextmanager
def _listen_on_tcp(host: str, port: int) -> Iterator[Any]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as exc:
            raise OSError(exc.errno, f"backdoor {host}:{port}: {exc.strerror}") from exc
        listener.listen()
        yield listener


class _Server:
    """Accepts connections, each of which gets a session in a greenthread."""

    def __init__(self, namespace: Mapping[str, Any], output: _RoutedOutput) -> None:
        self._namespace = namespace
        self._output = output
        self._threads: set[Any] = set()

    def serve(self, listener: Any) -> None:
        """Accept connections on `listener`."""
        self._spawn(self._accept, listener)

    def close(self) -> None:
        """End all sessions."""
        for thread in list(self._threads):
            thread.kill()

    def _spawn(self, fn: Any, *args: Any) -> None:
        thread = concurrency.spawn(fn, *args)
        self._threads.add(thread)
        thread.link(self._threads.discard)

    def _accept(self, listener: Any) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as exc:  # out of descriptors, say, which passes
                _log.warning("backdoor: %s", exc)
                concurrency.sleep(1)
            else:
                self._spawn(self._talk, connection)

    def _talk(self, connection: Any) -> None:
        try:
            with connection, connection.makefile("r", encoding="utf-8", errors="replace", newline="\n") as lines:
                self._interact(_Session(connection, lines, self._namespace))
        except (SystemExit, OSError):
            pass  # exit() was called, or the client has gone: the end of the session, and of nothing else

    def _interact(self, session: _Session) -> None:
        with self._output.going_to(session):
            session.interact(banner=f"nameko, process {os.getpid()}: {', '.join(self._namespace)}", exitmsg="")


class _Session(code.InteractiveConsole):
    """A prompt on a socket."""

    def __init__(self, connection: Any, lines: TextIO, namespace: Mapping[str, Any]) -> None:
        super().__init__({"__name__": "__console__", "__doc__": None, "exit": _leave, "quit": _leave, **namespace})
        self._connection = connection
        self._lines = lines

    def raw_input(self, prompt: str = "") -> str:
        """Ask for a line."""
        self.write(prompt)
        line = self._lines.readline()
        if not line:
            raise EOFError
        line = line.rstrip("\r\n")
        if line == INTERRUPT:
            raise KeyboardInterrupt
        return line

    def write(self, data: str) -> None:
        """Send text to the client."""
        self._connection.sendall(data.encode("utf-8", "replace"))


def _leave() -> NoReturn:
    raise SystemExit


class _RoutedOutput:
    """Stands in for `sys.stdout`: what a session's greenthread prints goes to its client, all else to where it went."""

    def __init__(self, original: Any) -> None:
        self._original = original
        self._sessions: dict[Any, _Session] = {}

    @contextmanager
    def going_to(self, session: _Session) -> Iterator[None]:
        """Send what this greenthread prints in the block to `session`."""
        thread = concurrency.current()
        self._sessions[thread] = session
        try:
            yield
        finally:
            del self._sessions[thread]

    def write(self, text: str) -> int:
        session = self._sessions.get(concurrency.current())
        if session is None:
            return int(self._original.write(text))
        session.write(text)
        return len(text)

    def flush(self) -> None:
        if concurrency.current() not in self._sessions:
            self._original.flush()

    def isatty(self) -> bool:
        return concurrency.current() not in self._sessions and self._original.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@contextmanager
def _routed_output() -> Iterator[_RoutedOutput]:
    original = sys.stdout
    output = _RoutedOutput(original)
    sys.stdout = output
    try:
        yield output
    finally:
        sys.stdout = original
