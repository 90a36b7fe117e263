from __future__ import annotations

import signal
import socket
import stat
from collections.abc import Callable
from typing import Any

import pytest

from nameko.cli._backdoor_address import parse_loopback_address
from nameko.exceptions import ConfigurationError
from nameko.unix_sockets import private_directory

TickService = Callable[..., Any]


def test_a_prompt_in_a_running_process(project: Any, tick_service: TickService) -> None:
    tick_service("print('from the service', flush=True)")
    process = project.start("run", "--backdoor", "--backdoor-port", "0", "ticking")
    process.expect("services ready")

    path = project.path / "nameko" / f"{process.pid}.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    script = "runner.service_names\nprint('to the client')\nx = 1 +\n1 / 0\nhelp(len)\nexit()\nprint('never')\n"
    done = project.nameko("backdoor", stdin=script)
    assert done.returncode == 0, done.stderr
    assert f"nameko, process {process.pid}: runner, config" in done.stdout
    assert "['ticking']" in done.stdout
    assert "to the client" in done.stdout
    assert "SyntaxError" in done.stdout
    assert "ZeroDivisionError" in done.stdout
    assert "Return the number of items in a container." in done.stdout
    assert "from the service" not in done.stdout
    assert "never" not in done.stdout
    assert "to the client" not in process.output

    # on TCP, spoken as telnet or netcat would
    port = process.output.partition("backdoor 127.0.0.1:")[2].split()[0]
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as connection:
        lines = connection.makefile("rw", encoding="utf-8")
        lines.write("6 * 7\r\n")
        lines.flush()
        lines.readline()
        assert lines.readline() == ">>> 42\n"

    # a client that hangs on does not hold up the end
    with socket.create_connection(("127.0.0.1", int(port)), timeout=10):
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0
    assert not path.exists()


def test_the_client_in_a_terminal(project: Any, tick_service: TickService) -> None:
    tick_service("pass")
    process = project.start("run", "--backdoor", "ticking")
    process.expect("services ready")
    terminal = project.start_in_terminal("backdoor", str(process.pid))
    terminal.expect(">>> ")
    terminal.send("if True:\n")
    terminal.expect("... ")
    terminal.interrupt()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(">>> ")
    terminal.send("6 * 7\n")
    terminal.expect("\n42\n")
    terminal.expect(">>> ")
    terminal.send("\x04")
    assert terminal.wait() == 0
    # the process goes on, and so does its prompt
    assert "42" in project.nameko("backdoor", stdin="6 * 7\n").stdout


def test_nobody_there(project: Any, here: Any) -> None:
    done = here("backdoor")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: no process of this user runs with --backdoor (there is no socket in ")

    (project.path / "nameko" / "1.sock").touch()
    (project.path / "nameko" / f"{__import__('os').getpid()}.sock").touch()
    done = here("backdoor")
    assert done.stderr.startswith("Error: several processes have a backdoor, say which one: 1, ")

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    for target in (port, f"127.0.0.1:{port}", "./no.sock"):
        done = here("backdoor", "--no-rlwrap", target)
        assert done.returncode == 1
        assert done.stderr.startswith(f"Error: no backdoor at {target}: ")

    for target in ("nonsense", "localhost:", "4194303"):
        done = here("backdoor", target)
        assert done.returncode == 1
        assert done.stderr == (
            f"Error: no backdoor at {target}: it is neither a process with a backdoor, "
            "nor the path of a socket, nor [host:]port\n"
        )


def test_a_port_in_use(project: Any, here: Any, tick_service: TickService) -> None:
    tick_service("pass")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = here("run", "--backdoor-port", str(port), "ticking")
    assert done.returncode == 1
    assert f"backdoor 127.0.0.1:{port}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("3000", ("127.0.0.1", 3000)),
        (3000, ("127.0.0.1", 3000)),
        ("localhost:3000", ("localhost", 3000)),
        ("127.1.2.3:3000", ("127.1.2.3", 3000)),
        ("[::1]:3000", ("::1", 3000)),
    ],
)
def test_loopback_addresses(text: str | int, address: tuple[str, int]) -> None:
    assert parse_loopback_address(text) == address


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.0.0.0:3000", "loopback addresses only"),
        ("example.org:3000", "loopback addresses only"),
        ("192.168.0.1:3000", "loopback addresses only"),
        ("[::]:3000", "loopback addresses only"),
        ("port", r"'port' is not an address of the form \[host:\]port"),
        ("localhost:99999", "is not an address"),
        ("", "is not an address"),
    ],
)
def test_other_addresses(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_loopback_address(text)


def test_a_directory_that_others_can_enter_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    directory = private_directory()
    (tmp_path / "nameko").chmod(0o755)
    with pytest.raises(ConfigurationError, match="mode 0700"):
        private_directory()
    (tmp_path / "nameko").rmdir()
    (tmp_path / "nameko").symlink_to("/tmp")
    with pytest.raises(ConfigurationError, match="mode 0700"):
        private_directory()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "nowhere" / "\0".strip("\0")))
    (tmp_path / "nowhere").touch()
    with pytest.raises(ConfigurationError, match="no directory for sockets"):
        private_directory()
    assert directory == str(tmp_path / "nameko")
