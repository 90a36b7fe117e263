"""`nameko shell`: scripts on standard input and prompts in a terminal, with services in the same process."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

GREETER = """
    import time
    from nameko.rpc import rpc
    from nameko.timer import timer

    class Greeter:
        name = "greeter"

        @rpc
        def hello(self, name):
            return f"Hello, {name}!"

        @rpc
        def wait(self):
            time.sleep(30)

        @timer(interval=0.2)
        def tick(self):
            with open("ticks", "a") as file:
                file.write("x")
"""


def test_a_script_talks_to_a_service_in_the_same_process(project: Any) -> None:
    project.write("greeter.py", GREETER)
    script = """
n.rpc.greeter.hello("you")
for name in ("a", "b"):
    n.rpc.greeter.hello(name)
n.disconnect()
print(n.rpc.greeter.hello("again"))
"""
    done = project.nameko("shell", "--run", "greeter", stdin=script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["'Hello, you!'", "'Hello, a!'", "'Hello, b!'", "Hello, again!"]


def test_a_script_that_raises(project: Any) -> None:
    done = project.nameko("shell", "--run", "greeter", stdin="print(1)\n1 / 0\nprint(2)\n")
    assert done.returncode == 1
    assert "no module named 'greeter'" in done.stderr

    done = project.nameko("shell", stdin="print(1)\n1 / 0\nprint(2)\n")
    assert (done.returncode, done.stdout) == (1, "1\n")
    assert done.stderr.splitlines() == [
        "Traceback (most recent call last):",
        '  File "<stdin>", line 2, in <module>',
        "ZeroDivisionError: division by zero",
    ]


def test_a_script_ends_the_shell_as_it_likes(project: Any, here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("import sys\nsys.exit(7)\n"))
    assert here("shell").returncode == 7
    monkeypatch.setattr("sys.stdin", io.StringIO("x = = 1\n"))
    done = here("shell")
    assert done.returncode == 1
    assert "SyntaxError" in done.stderr


def test_what_n_offers(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    script = "n\nn.config['AMQP_URI']\nn.config\nprint(n.dispatch_event)\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(script))
    done = here("shell", "-d", "PASSWORD=canary")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "<n.config, n.disconnect, n.dispatch_event, n.rpc>\n'pyamqp://guest:guest@localhost'\n"
    )
    assert "canary" not in done.stdout


def test_a_plugin_adds_names(project: Any, here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    project.write(
        "local.py",
        """
        from nameko.plugins import hookimpl

        @hookimpl
        def nameko_shell_namespace(config, exit_stack):
            exit_stack.callback(print, "released")
            return {"greeting": config["GREETING"]}
        """,
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("n.greeting\nn.disconnect()\nn.greeting\n"))
    done = here("shell", "-p", "local", "-d", "GREETING=hi")
    assert (done.returncode, done.stdout) == (0, "'hi'\nreleased\n'hi'\nreleased\n")


def test_a_configuration_that_cannot_work_is_one_line(here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("print(1)\n"))
    done = here("shell", "--broker", "nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: AMQP_URI ")
    assert done.stderr.count("\n") == 1


def test_a_plugin_cannot_replace_the_shells_own_names(project: Any, here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    project.write(
        "local.py",
        """
        from nameko.plugins import hookimpl

        @hookimpl
        def nameko_shell_namespace():
            return {"config": 1, "own": 2}
        """,
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("n.own, type(n.config).__name__\n"))
    done = here("shell", "-p", "local")
    assert done.stdout == "(2, 'Config')\n"
    assert "plugin local (module local): `n.config` is left out, the shell has its own" in done.stderr


def test_the_plain_prompt_in_a_terminal(project: Any, eventually: Any) -> None:
    project.write("greeter.py", GREETER)
    startup = project.write("startup.py", "from_startup = 41\n")
    project.environ["PYTHONSTARTUP"] = str(startup)
    terminal = project.start_in_terminal("shell", "--interface", "plain", "--run", "greeter")
    terminal.expect("running greeter")
    terminal.expect(">>> ")
    terminal.send('n.rpc.greeter.hello("you")\n')
    terminal.expect("'Hello, you!'")
    terminal.expect(">>> ")

    # services run on while the prompt waits
    ticks = project.path / "ticks"
    seen = ticks.stat().st_size if ticks.exists() else 0
    eventually(lambda: ticks.exists() and ticks.stat().st_size > seen + 3)

    # Ctrl-C: while typing, in a call, in a loop that yields to nobody
    terminal.send("discarded")
    terminal.interrupt()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(">>> ")
    terminal.send("from_startup + 1\n")
    terminal.expect("\n42\n")
    terminal.expect(">>> ")
    terminal.send("print('calling'); n.rpc.greeter.wait()\n")
    terminal.expect("\ncalling\n")
    terminal.interrupt()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(">>> ")
    terminal.send("while True: print('looping') or len([0] * 9_999_999)\n\n")
    terminal.expect("\nlooping\n")
    terminal.interrupt()
    terminal.expect("KeyboardInterrupt")
    terminal.expect(">>> ")
    terminal.send('n.rpc.greeter.hello("again")\n')
    terminal.expect("'Hello, again!'")
    terminal.expect(">>> ")
    terminal.send("\x04")
    assert terminal.wait() == 0


@pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is not installed")
def test_ipython_in_a_terminal(project: Any, eventually: Any) -> None:
    project.write("greeter.py", GREETER)
    project.environ.update(TERM="xterm", IPYTHONDIR=str(project.path / "ipython"))
    terminal = project.start_in_terminal("shell", "--interface", "ipython", "--run", "greeter")
    terminal.expect("running greeter")
    terminal.expect("In [1]: ")
    ticks = project.path / "ticks"
    eventually(lambda: ticks.exists() and ticks.stat().st_size > 3, timeout_s=20)
    terminal.send('n.rpc.greeter.hello("you")\r')
    terminal.expect("'Hello, you!'")
    terminal.expect("In [2]: ")
    terminal.send("print('calling'); n.rpc.greeter.wait()\r")
    terminal.expect("\ncalling")
    terminal.interrupt()
    terminal.expect("KeyboardInterrupt")
    terminal.expect("In [3]: ")
    terminal.send('n.rpc.greeter.hello("again")\r')
    terminal.expect("'Hello, again!'")
    terminal.expect("In [4]: ")
    terminal.send("exit\r")
    assert terminal.wait() == 0


def test_an_interface_that_is_not_installed(
    project: Any, here: Any, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setitem(__import__("sys").modules, "IPython", None)
    monkeypatch.setitem(__import__("sys").modules, "bpython", None)
    assert here("shell", "--interface", "ipython").stderr == "Error: IPython is not installed: pip install ipython\n"
    assert here("shell", "--interface", "bpython").stderr == "Error: bpython is not installed: pip install bpython\n"
    project.write("greeter.py", GREETER)
    done = here("shell", "--interface", "bpython", "--run", "greeter")
    assert done.stderr == "Error: bpython cannot host services: use --interface ipython or plain with --run\n"


def test_what_a_plugin_fails_to_release_hinders_no_other(project: Any) -> None:
    project.write(
        "local.py",
        """
        from nameko.plugins import hookimpl

        def fail():
            raise SystemExit("cannot be closed")

        @hookimpl
        def nameko_shell_namespace(config, exit_stack):
            exit_stack.callback(fail)
            return {"local": 1}
        """,
    )
    done = project.nameko("shell", "-p", "local", stdin="n.disconnect()\nprint('local', n.local)\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "local 1\n"
    assert (
        "plugin local (module local): what nameko_shell_namespace has registered failed and is ignored" in done.stderr
    )
