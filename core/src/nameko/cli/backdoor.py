"""`nameko backdoor`: a terminal for the prompt of a process that runs with `--backdoor`."""

from __future__ import annotations

import os
import socket
import sys

from nameko.cli._backdoor_address import DEFAULT_HOST, socket_path
from nameko.exceptions import CommandError
from nameko.unix_sockets import private_directory

_INTERRUPT = b"\x03\n"
_PROMPTS = (">>> ", "... ")
_CONNECT_TIMEOUT_S = 5


def main(target: str | None) -> int:
    """Connect to a process and talk to its prompt until either side ends.

    :param target: a process id, the path of a socket, or `[host:]port`; None for the only process there is
    :returns: the exit status
    :raises CommandError: when it cannot be found or reached
    """
    with _connect(target) as connection:
        _enable_line_editing()
        return _talk(connection)


def _connect(target: str | None) -> socket.socket:
    try:
        path = _unix_socket(target)
        if path is None:
            return socket.create_connection(_tcp_address(target or ""), _CONNECT_TIMEOUT_S)
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_CONNECT_TIMEOUT_S)
        connection.connect(path)
    except OSError as exc:
        raise CommandError(f"no backdoor at {target or path}: {exc}") from exc
    return connection


def _unix_socket(target: str | None) -> str | None:
    """The path of the socket that `target` stands for; None when it stands for a TCP address."""
    if target is None:
        return socket_path(_only_process())
    if "/" in target or target.endswith(".sock"):
        return target
    if target.isdecimal() and os.path.exists(socket_path(int(target))):
        return socket_path(int(target))
    return None


def _tcp_address(target: str) -> tuple[str, int]:
    host, _, port = target.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        kinds = "a process with a backdoor, nor the path of a socket, nor [host:]port"
        raise CommandError(f"no backdoor at {target}: it is neither {kinds}")
    return host.strip("[]") or DEFAULT_HOST, int(port)


def _only_process() -> int:
    directory = private_directory()
    names = [name.removesuffix(".sock") for name in os.listdir(directory) if name.endswith(".sock")]
    alive = [int(name) for name in names if name.isdecimal() and _is_alive(int(name))]
    if len(alive) == 1:
        return alive[0]
    if alive:
        raise CommandError(f"several processes have a backdoor, say which one: {', '.join(map(str, sorted(alive)))}")
    raise CommandError(f"no process of this user runs with --backdoor (there is no socket in {directory})")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _talk(connection: socket.socket) -> int:
    connection.settimeout(None)
    while True:
        prompt = _show_until_prompt(connection)
        if prompt is None:
            return 0
        try:
            line = input(prompt).encode() + b"\n"
        except EOFError:
            print()
            return 0
        except KeyboardInterrupt:
            line = _INTERRUPT
        connection.sendall(line)


def _show_until_prompt(connection: socket.socket) -> str | None:
    """Print what arrives, up to the next prompt, which is returned; None when the other side has closed."""
    pending = b""
    while True:
        received = _receive(connection)
        if not received:
            return None
        pending += received
        text = pending.decode(errors="replace")
        for prompt in _PROMPTS:
            if text.endswith(prompt):
                _print(text.removesuffix(prompt))
                return prompt
        complete, newline, pending = pending.rpartition(b"\n")
        _print((complete + newline).decode(errors="replace"))


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except KeyboardInterrupt:
        print("\n(the statement goes on over there; Ctrl-C again disconnects)", file=sys.stderr)
        try:
            return connection.recv(65536)
        except KeyboardInterrupt:
            return b""
    except OSError:
        return b""


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _enable_line_editing() -> None:
    try:
        import readline  # noqa: F401 - `input` uses it once it is imported
    except ImportError:
        pass
