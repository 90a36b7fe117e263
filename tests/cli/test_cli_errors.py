"""Mistakes of users: one line on stderr, and an exit status that says what kind of mistake it is."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

SERVICE = """
    from nameko.extensions import Entrypoint, Extension

    class Idle(Entrypoint):
        pass

    class Service:
        name = "service"

        @Idle.decorator
        def method(self):
            pass
"""


@pytest.fixture
def failing(here: Callable[..., Any]) -> Callable[..., str]:
    """`failing(*arguments, status=1)`: runs `nameko`, which must fail; the one line that it has to say."""
    return partial(_failing, here)


def _failing(nameko: Callable[..., Any], *arguments: str, status: int = 1) -> str:
    done = nameko(*arguments)
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith(("plugins: ", "starting services"))]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("Error: ")
    assert done.stdout == ""
    return lines[0].removeprefix("Error: ")


Failing = Callable[..., str]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "Missing argument 'MODULE[:CLASS]...'. See `nameko run --help`."),
        (["run", "--no-such-option", "service"], "--no-such-option"),
        (["no-such-command"], "No such command 'no-such-command'. See `nameko --help`."),
        (["run", "-d", "max_workers", "service"], "--define takes KEY=YAML, not 'max_workers'."),
        (
            ["run", "--broker", "", "service"],
            "--broker': is empty; leave it out, or give it a value. See `nameko run --help`.",
        ),
        (["shell", "--interface", "csh"], "'csh' is not one of"),
    ],
)
def test_usage(failing: Failing, arguments: list[str], message: str) -> None:
    assert message in failing(*arguments, status=2)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nowhere", "no module named 'nowhere' on the Python path or in "),
        ("nowhere.at.all", "no module named 'nowhere' on the Python path or in "),
        ("package.nowhere", "no module named 'package.nowhere' on the Python path or in "),
        ("service.py", "Failed to find service 'service.py', did you mean 'service'?"),
        ("./package/inner.py", "Failed to find service './package/inner.py', did you mean 'package.inner'?"),
        ("package/inner", "'package/inner' is not the name of a module"),
        ("service:Servise", "no class 'Servise' in module 'service' (did you mean 'Service'?)"),
        ("service:Idle.decorator", "no class 'Idle.decorator' in module 'service'"),
        ("service:NUMBER", "'NUMBER' in module 'service' is not a class"),
        ("empty", "no services in module 'empty': no class there has a method with an entrypoint"),
        ("nameless", "Service class Service has no `name`: give it one, as a string."),
        ("misnamed", "Service class Service: `name` must be a string, not 5."),
        ("crashing", "module 'crashing' cannot be imported: ValueError: no luck (crashing.py, line 5)"),
        ("exiting", "module 'exiting' cannot be imported: SystemExit: 3 (exiting.py, line 2)"),
        ("unfinished", "module 'unfinished' cannot be imported: SyntaxError: "),
        ("outdated", "module 'outdated' cannot be imported: ModuleNotFoundError: No module named 'nameko.rpc.nothing'"),
        ("importing", "module 'importing' cannot be imported: ModuleNotFoundError: No module named 'no_such_thing'"),
        ("twins", "two services are called 'service': service:Service and twins:Twin; name the one to run"),
        ("not a name", "'not a name' is not the name of a module"),
        ("", "'' is not the name of a module"),
    ],
)
def test_services_that_cannot_be_found(project: Any, failing: Failing, argument: str, message: str) -> None:
    project.write("service.py", f"{SERVICE}\n    NUMBER = 5\n")
    project.write("package/__init__.py", "")
    project.write("package/inner.py", SERVICE)
    project.write("empty.py", "class Service:\n    name = 'service'\n")
    project.write("nameless.py", SERVICE.replace('name = "service"', "pass"))
    project.write("misnamed.py", SERVICE.replace('name = "service"', "name = 5"))
    project.write(
        "crashing.py",
        "def fail():\n    text = 'no luck'\n    # somewhere\n    # below\n    raise ValueError(text)\n\nfail()\n",
    )
    project.write("exiting.py", "import sys\nsys.exit(3)\n")
    project.write("unfinished.py", "def f(:\n")
    project.write("outdated.py", "import nameko.rpc.nothing\n")
    project.write("importing.py", "import service\nimport no_such_thing\n")
    project.write("twins.py", "import service\nfrom service import Service\n\nclass Twin(Service):\n    pass\n")
    assert message in failing("run", argument)


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("nameko.web.handlers", "nameko.web is provided by nameko-http: pip install nameko-http"),
        ("nameko.standalone.rpc", "nameko.standalone.rpc is provided by nameko-rpc: pip install nameko-rpc"),
        (
            "nameko.standalone.events",
            "nameko.standalone.events is provided by nameko-events: pip install nameko-events",
        ),
        ("nameko.messaging", "nameko.messaging is provided by nameko-amqp: pip install nameko-amqp"),
        ("nameko.timer", "nameko.timer is provided by nameko-timer: pip install nameko-timer"),
    ],
)
def test_an_extension_that_is_not_installed(
    project: Any, failing: Failing, monkeypatch: pytest.MonkeyPatch, module: str, distribution: str
) -> None:
    # As if it were not, here where all are: the import system takes None for "there is no such module".
    provided = distribution.partition(" ")[0]
    for name in [each for each in sys.modules if each.startswith(f"{provided}.")]:  # of other tests
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, provided, None)  # type: ignore[arg-type]
    project.write("service.py", f"import {module}")
    project.environ["NAMEKO_DISABLE_PLUGINS"] = "amqp,events,http,rpc,timer"
    message = failing("run", "service")
    assert message == f"module 'service' cannot be imported: {distribution} (service.py, line 1)"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_workers: many", "configuration key 'max_workers' must be of type int, not str"),
        ("a: 1\na: 2", "config.yaml, line 2, column 1: key 'a' stands twice, first on line 1"),
        ("a: [", "config.yaml, line 1, column "),
        ("- a", "config.yaml: a mapping of keys to values is expected, not list"),
        ("plugins: [rpc]", "configuration key 'plugins' must be a mapping"),
        ("LOGGING: {version: 7}", "configuration key 'LOGGING': Unsupported version: 7"),
        ("LOGGING: {version: 1, handlers: {h: {class: no.Such}}}", "configuration key 'LOGGING': Unable to configure"),
    ],
)
def test_a_bad_configuration(project: Any, failing: Failing, content: str, message: str) -> None:
    project.write("service.py", SERVICE)
    project.write("config.yaml", content)
    assert message in failing("run", "-c", "config.yaml", "service")


def test_a_configuration_file_that_is_not_there(project: Any, failing: Failing) -> None:
    project.write("service.py", SERVICE)
    message = failing("run", "--config", "nowhere.yaml", "service")
    assert message == "configuration file 'nowhere.yaml' cannot be read: No such file or directory"


def test_the_example_in_an_error_can_be_read(failing: Failing) -> None:
    message = failing("shell", "--broker", "ftp://u:canary@h")
    assert "`ftp://u:********@h`" in message
    assert message.count("****") == 2  # of the canary alone


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        ("exceptions.ConfigurationError('bad\\nURI')", 1, "bad URI"),
        (
            "exceptions.TemporaryFailure('the broker amqp://u:canary@h is away')",
            75,
            "the broker amqp://u:********@h is away",
        ),
        ("exceptions.PluginError('wrong')", 1, "wrong"),
    ],
)
@pytest.mark.parametrize("step", ["setup", "start"])
def test_what_an_extension_raises_at_start(
    project: Any, failing: Failing, step: str, raised: str, status: int, message: str
) -> None:
    project.write(
        "service.py",
        SERVICE.replace(
            "pass", f"def {step}(self):\n            from nameko import exceptions\n            raise {raised}", 1
        ),
    )
    assert message in failing("run", "service", status=status)


def test_a_port_in_use(project: Any, failing: Failing) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        listen = f"def start(self):\n            import socket\n            socket.create_server(('127.0.0.1', {port}))"
        project.write("service.py", SERVICE.replace("pass", listen, 1))
        assert "Address already in use" in failing("run", "service")


def test_a_port_in_use_by_services_that_do_more_than_http(project: Any, failing: Failing) -> None:
    project.write(
        "services.py",
        """
        from nameko.rpc import rpc
        from nameko.web.handlers import http

        class Beside:
            name = "beside"

            @rpc
            def method(self): ...

        class Both(Beside):
            name = "both"

            @http("GET", "/")
            def get(self, request): ...
        """,
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        options = ["--broker", "memory://", "-d", f"WEB_SERVER_ADDRESS={address}"]
        assert f"cannot listen on {address}" in failing("run", *options, "services")


def test_a_bug_gets_a_traceback(project: Any) -> None:
    project.write("service.py", SERVICE.replace("pass", "def start(self):\n            raise ZeroDivisionError", 1))
    done = project.nameko("run", "service")
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr
    assert "ZeroDivisionError" in done.stderr


def test_a_mistake_in_a_process_of_its_own(project: Any) -> None:
    assert (
        _failing(project.nameko, "run", "nowhere")
        == f"no module named 'nowhere' on the Python path or in {project.path}"
    )


@pytest.mark.parametrize("by", ["option", "environment"])
def test_debugging_shows_the_traceback_of_mistakes_too(project: Any, here: Any, by: str) -> None:
    project.write("service.py", "1 / 0")
    if by == "environment":
        project.environ["NAMEKO_DEBUG"] = "1"
    done = here(*(["--debug"] if by == "option" else []), "run", "service")
    assert done.returncode == 1
    assert "Traceback (most recent call last):" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: module 'service' cannot be imported: ZeroDivisionError")


def test_a_misspelt_key_is_only_a_warning(project: Any, here: Any) -> None:
    project.write("config.yaml", "max_worker: 3\nDB_URIS: {}\n")
    done = here("show-config")
    assert done.returncode == 0
    assert done.stderr == "configuration key 'max_worker' is not known; did you mean 'max_workers'?\n"


@pytest.mark.parametrize("group", [[], ["amqp"], ["amqp", "dead"]])
def test_a_group_without_a_command_shows_its_help_as_it_is(project: Any, group: list[str]) -> None:
    shown = project.nameko(*group)
    wanted = project.nameko(*group, "--help")
    assert (shown.stdout + shown.stderr).strip() == wanted.stdout.strip()
