"""Plugins as the command line treats them: listed, blocked, broken, adding options and commands."""

from __future__ import annotations

import json
from typing import Any

import pytest

HEADER = "from nameko.plugins import hookimpl\n"
IDLE_SERVICE = """
    from nameko.extensions import Entrypoint

    class Idle(Entrypoint):
        def start(self):
            print("configured:", self.container.config.get("GREETING"), flush=True)
            raise SystemExit(0)

    class Service:
        name = "service"

        @Idle.decorator
        def method(self):
            pass
"""


def listed(here: Any, *arguments: str) -> dict[str, dict[str, Any]]:
    done = here("plugins", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {row["name"]: row for row in json.loads(done.stdout)}


def test_a_table(project: Any, here: Any) -> None:
    project.install("acme-audit", {"audit": "acme_audit"})
    project.write("acme_audit.py", "")
    done = here("plugins", "-p", "no:rpc")
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["NAME", "DISTRIBUTION", "VERSION", "STATUS"]
    assert ["amqp", "nameko-amqp", "3.0.0", "enabled"] in lines
    assert ["audit", "acme-audit", "1.2", "enabled"] in lines
    assert ["rpc", "nameko-rpc", "3.0.0", "blocked"] in lines
    assert done.stdout.splitlines()[-1].startswith("enabled: not imported so far; --verbose and --check import them")


def test_no_plugins(project: Any, here: Any) -> None:
    done = here("plugins", "--verbose", "-d", "plugins={only: []}")
    assert done.returncode == 0
    assert all("blocked" in line or "only" in line for line in done.stdout.splitlines()[1:])


def test_details(project: Any, here: Any) -> None:
    project.install("acme-audit", {"audit": "acme_audit"})
    project.write(
        "acme_audit.py",
        HEADER
        + """
from nameko.extensions import DependencyProvider
from nameko.plugins import ConfigKey, ExtensionInfo

class Audit(DependencyProvider):
    pass

@hookimpl
def nameko_extensions():
    return [ExtensionInfo(Audit, "injects an audit log")]

@hookimpl
def nameko_config_keys():
    return [ConfigKey("AUDIT_FILE", "str", None, "Where to.")]

@hookimpl
def nameko_commands(cli):
    @cli.command()
    def audit():
        print("audited")
""",
    )
    row = listed(here, "--verbose")["audit"]
    assert row == {
        "name": "audit",
        "distribution": "acme-audit",
        "version": "1.2",
        "status": "loaded",
        "target": "acme_audit",
        "problem": "",
        "hooks": ["nameko_commands", "nameko_config_keys", "nameko_extensions"],
        "extensions": ["acme_audit.Audit: injects an audit log"],
        "config_keys": ["AUDIT_FILE"],
        "commands": ["audit"],
    }
    text = here("plugins", "--verbose").stdout
    assert "acme_audit.Audit: injects an audit log" in text
    assert "    configuration keys:\n        AUDIT_FILE\n" in text
    assert "not imported so far" not in text


def test_the_status_of_every_failure(project: Any, here: Any) -> None:
    project.install("acme-conflict", {"conflict": "good"}, requires=("nameko-core>=99",))
    project.install("acme-missing", {"missing": "no_such_module"})
    project.install("acme-unknown", {"unknown": "unknown"})
    project.install("acme-invalid", {"invalid": "invalid"})
    project.install("acme-one", {"twin": "good"})
    project.install("acme-two", {"twin": "good"})
    project.write("good.py", "")
    project.write("unknown.py", f"{HEADER}@hookimpl\ndef nameko_redy(container): ...\n")
    project.write("invalid.py", f"{HEADER}@hookimpl\ndef nameko_ready(contaner): ...\n")

    quick = {name: row["status"] for name, row in listed(here).items()}
    assert quick["conflict"] == "version conflict"
    assert quick["twin"] == "duplicate"
    assert quick["missing"] == "not importable"
    assert quick["unknown"] == quick["invalid"] == "enabled"  # as far as can be told without an import

    rows = listed(here, "--verbose", "-p", "no:timer")
    statuses = {name: row["status"] for name, row in rows.items() if name not in ("health", "metrics", "tracing")}
    assert statuses == {
        "amqp": "loaded",
        "events": "loaded",
        "http": "loaded",
        "rpc": "loaded",
        "timer": "blocked",
        "conflict": "version conflict",
        "missing": "not importable",
        "unknown": "unknown hook",
        "invalid": "invalid hook",
        "twin": "duplicate",
    }
    assert "did you mean 'nameko_ready'?" in rows["unknown"]["problem"]


@pytest.mark.parametrize(
    "target", ["acme", "acme.sub", "acme.sub.module:attribute", "acme_single", "nameko.amqp._plugin"]
)
def test_a_module_that_is_there(project: Any, here: Any, target: str) -> None:
    project.install("acme-there", {"there": target})
    for path in ("acme/__init__.py", "acme/sub/__init__.py", "acme/sub/module.py", "acme_single.py"):
        project.write(path, "raise ZeroDivisionError('it was imported')")
    assert listed(here)["there"]["status"] == "enabled"


@pytest.mark.parametrize(
    "target", ["acme_no", "acme.no", "acme.sub.no:attribute", "acme.sub.module.no", "nameko.no._plugin"]
)
def test_a_module_that_is_missing_is_told_without_importing_any(project: Any, here: Any, target: str) -> None:
    project.install("acme-missing", {"missing": target})
    for path in ("acme/__init__.py", "acme/sub/__init__.py", "acme/sub/module.py"):
        project.write(path, "raise ZeroDivisionError('it was imported')")
    row = listed(here)["missing"]
    assert row["status"] == "not importable"
    assert row["problem"] == f"there is no module {target.partition(':')[0]!r}"


def test_checking(broken: Any, here: Any) -> None:
    done = here("plugins", "--check")
    assert done.returncode == 1
    assert "cannot be imported: ZeroDivisionError: no luck" in done.stdout
    assert here("plugins", "--check", "-p", "no:bad").returncode == 0
    assert here("plugins", "--check", "--json").returncode == 1
    assert here("plugins").returncode == 0


@pytest.fixture
def broken(project: Any) -> Any:
    """A project where a broken plugin is installed, and a service that ends at once."""
    project.install("acme-bad", {"bad": "acme_bad"})
    project.write("acme_bad.py", "raise ZeroDivisionError('no luck')")
    project.write("service.py", IDLE_SERVICE)
    return project


def test_a_broken_plugin_stops_run(broken: Any, here: Any) -> None:
    done = here("run", "service")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "Error: plugin 'bad' (acme-bad 1.2): cannot be imported: ZeroDivisionError: no luck (acme_bad.py, line 1); "
        "block it with `-p no:bad` or NAMEKO_DISABLE_PLUGINS=bad\n"
    )


@pytest.mark.parametrize("way", ["option", "global option", "environment", "configuration", "allow-list"])
def test_a_broken_plugin_that_is_blocked_does_not(broken: Any, here: Any, way: str) -> None:
    arguments = ["run", "service"]
    if way == "option":
        arguments = ["run", "-p", "no:bad", "service"]
    elif way == "global option":
        arguments = ["-p", "no:bad", "run", "service"]
    elif way == "environment":
        broken.environ["NAMEKO_DISABLE_PLUGINS"] = "bad"
    elif way == "configuration":
        broken.write("c.yaml", "plugins: {disable: [bad]}")
        arguments = ["run", "-c", "c.yaml", "service"]
    else:
        arguments = ["run", "-d", "plugins={only: [timer]}", "service"]
    done = here(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "configured: None\n"


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["plugins"], ["plugins", "--verbose"], ["show-config"]]
)
def test_a_broken_plugin_stops_nothing_that_inspects(broken: Any, here: Any, arguments: list[str]) -> None:
    done = here(*arguments)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    if arguments == ["run", "--help"]:
        assert "--broker" in done.stdout


def test_start_up_logs_each_plugin(project: Any, here: Any) -> None:
    project.install("acme-audit", {"audit": "acme_audit"})
    project.write("acme_audit.py", "")
    project.write("service.py", IDLE_SERVICE)
    done = here("run", "-p", "no:rpc", "service")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("plugins: ")]
    assert "audit (acme-audit 1.2)" in line
    assert "timer (nameko-timer 3.0.0)" in line
    assert "rpc" not in line


def test_a_local_module_as_plugin(project: Any, here: Any) -> None:
    project.write("local.py", f"{HEADER}@hookimpl\ndef nameko_container_stopped(container): print('seen')\n")
    project.write(
        "service.py",
        IDLE_SERVICE.replace("raise SystemExit(0)", "self.container.spawn_managed_thread(self.container.stop)"),
    )
    done = here("run", "-p", "local", "service")
    assert done.returncode == 0, done.stderr
    assert "local (module local)" in done.stderr
    assert "seen\n" in done.stdout


OPTIONS = (
    HEADER
    + """
from nameko.plugins import ConfigKey, RunOption

@hookimpl
def nameko_config_keys():
    return [ConfigKey("GREETING", "%s", None, "What to say.")]

@hookimpl
def nameko_run_options():
    return [
        RunOption("--greet", "GREETING", "What to say.", metavar="TEXT", envvar="GREETING_TO_USE"),
        RunOption("--config", "GREETING", "Taken already."),
    ]
"""
)


@pytest.mark.parametrize(
    ("type_words", "given", "configured"),
    [("str", "5", "5"), ("int", "5", "5"), ("list of int", "[1, 2]", "[1, 2]")],
)
def test_an_option_sets_a_key(project: Any, here: Any, type_words: str, given: str, configured: str) -> None:
    project.write("local.py", OPTIONS % type_words)
    project.write("service.py", IDLE_SERVICE.replace('get("GREETING")', 'get("GREETING").__repr__()'))
    done = here("run", "-p", "local", "-d", "GREETING=over", "service", "--greet", given)
    assert done.returncode == 0, done.stderr
    expected = repr(configured) if type_words == "str" else configured
    assert done.stdout == f"configured: {expected}\n"
    assert "plugin local (module local): option --config is left out, it is taken" in done.stderr


def test_an_option_takes_its_value_from_the_environment(project: Any, here: Any) -> None:
    project.write("local.py", OPTIONS % "str")
    project.write("service.py", IDLE_SERVICE)
    project.environ["GREETING_TO_USE"] = "hi"
    assert here("run", "-p", "local", "service").stdout == "configured: hi\n"
    assert here("run", "-p", "local", "--greet", "x", "service").stdout == "configured: x\n"


def test_an_option_that_is_given_and_empty(project: Any, here: Any) -> None:
    project.write("local.py", OPTIONS % "str")
    project.write("service.py", IDLE_SERVICE)
    done = here("run", "-p", "local", "--greet", "", "service")
    assert done.returncode == 2
    assert "is empty; leave it out, or give it a value" in done.stderr


def test_an_option_of_the_wrong_type(project: Any, here: Any) -> None:
    project.write("local.py", OPTIONS % "int")
    project.write("service.py", IDLE_SERVICE)
    done = here("run", "-p", "local", "--greet", "many", "service")
    assert done.returncode == 1
    assert "configuration key 'GREETING' must be of type int, not str" in done.stderr


def test_options_show_in_the_help(project: Any, here: Any) -> None:
    project.write("local.py", OPTIONS % "str")
    done = here("run", "-p", "local", "--help")
    assert done.returncode == 0
    text = " ".join(done.stdout.split())
    assert "--greet TEXT What to say. Sets GREETING. [env var: GREETING_TO_USE]" in text
    assert "--broker" in text


COMMANDS = (
    HEADER
    + """
import click

@hookimpl
def nameko_commands(cli):
    @cli.command()
    @click.argument("who")
    def greet(who):
        print("hello", who)

    @cli.command()
    def run():
        print("not this one")
"""
)


def test_a_command(project: Any, here: Any) -> None:
    project.install("acme-greet", {"greet": "acme_greet"})
    project.write("acme_greet.py", COMMANDS)
    done = here("greet", "you")
    assert (done.returncode, done.stdout) == (0, "hello you\n")
    assert "plugin greet (acme-greet 1.2): command 'run' is left out, there is one of that name" in done.stderr
    assert "Run services" in here("run", "--help").stdout


def test_a_command_of_a_local_module(project: Any, here: Any) -> None:
    project.write("local.py", COMMANDS)
    done = here("-p", "local", "greet", "you")
    assert (done.returncode, done.stdout) == (0, "hello you\n")


def test_a_broken_plugin_hides_no_command_of_another(broken: Any, here: Any) -> None:
    broken.install("acme-greet", {"greet": "acme_greet"})
    broken.write("acme_greet.py", COMMANDS)
    done = here("greet", "you")
    assert (done.returncode, done.stdout) == (0, "hello you\n")
    assert "Warning: plugin 'bad' (acme-bad 1.2): cannot be imported" in done.stderr


def test_commands_that_cannot_be_added(project: Any, here: Any) -> None:
    project.write("local.py", f"{HEADER}@hookimpl\ndef nameko_commands(cli): raise ZeroDivisionError\n")
    done = here("-p", "local", "greet")
    assert done.returncode == 2
    assert "plugin local (module local): nameko_commands failed and is ignored" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: No such command 'greet'. See `nameko --help`."


def test_required_plugins(project: Any, here: Any) -> None:
    project.write("service.py", IDLE_SERVICE)
    done = here("run", "-d", "plugins={require: [auditing]}", "service")
    assert done.returncode == 1
    assert done.stderr == "Error: plugin 'auditing' is required by `plugins: require`, but it is not installed\n"


def test_checking_required_plugins(project: Any, here: Any) -> None:
    required = ("-d", "plugins={require: [auditing, rcp, timer], disable: [timer]}")
    done = here("plugins", "--check", *required)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Warning: plugin 'auditing' is required by `plugins: require`, but it is not installed",
        "Warning: plugin 'rcp' is required by `plugins: require`, but it is not installed (did you mean 'rpc'?)",
        "Warning: plugin 'timer' is required by `plugins: require`, but it is blocked: disabled",
    ]
    listed_only = here("plugins", *required)
    assert (listed_only.returncode, listed_only.stderr) == (0, done.stderr)
    assert here("plugins", "--check", "-d", "plugins={require: [timer]}").returncode == 0


def test_blocking_what_is_not_installed(project: Any, here: Any) -> None:
    done = here("plugins", "-p", "no:tiemr")
    assert done.returncode == 0
    assert done.stderr == (
        "Warning: no plugin 'tiemr' is installed, so there is nothing to disable (did you mean 'timer'?)\n"
    )


@pytest.mark.parametrize("argument", ["no:", ""])
def test_blocking_or_loading_nothing(project: Any, here: Any, argument: str) -> None:
    done = here("plugins", "-p", argument)
    assert done.returncode == 2
    assert done.stderr == (
        f"Error: `-p {argument}` names nothing: it takes `no:NAME` of a plugin, or a module to load\n"
    )


@pytest.mark.parametrize(
    ("hook", "declaration", "command"),
    [
        ("nameko_config_keys", "ConfigKey(5, 'str', None, 'Help.')", ["show-config"]),
        ("nameko_extensions", "ExtensionInfo('no class', 'help')", ["plugins", "--verbose"]),
        ("nameko_run_options", "RunOption('broker', 'KEY', 'Help.')", ["run", "--help"]),
        ("nameko_run_options", "RunOption('--x', 'KEY', 'Help.', envvar=5)", ["run", "--help"]),
    ],
)
def test_a_declaration_that_is_none(project: Any, here: Any, hook: str, declaration: str, command: list[str]) -> None:
    header = "from nameko.plugins import ConfigKey, ExtensionInfo, RunOption, hookimpl\n"
    project.write("local.py", f"{header}@hookimpl\ndef {hook}():\n    return [{declaration}]\n")
    done = here(*command, "-p", "local")
    assert done.returncode == 0, done.stderr
    assert f"plugin local (module local): {hook} failed and is ignored" in done.stderr


def test_a_default_that_is_no_json(project: Any, here: Any) -> None:
    source = "from nameko.plugins import ConfigKey, hookimpl\n@hookimpl\ndef nameko_config_keys():\n"
    project.write("local.py", f"{source}    return [ConfigKey('ODD', 'str', {{1, 2}}, 'Help.')]\n")
    done = here("show-config", "--defaults", "-p", "local")
    assert done.returncode == 0, done.stderr
    assert '# ODD: "{1, 2}"' in done.stdout
