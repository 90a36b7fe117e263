"""`nameko migrate-check`, on services as they are written for nameko 2.14."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from nameko.cli._migration import Severity, check_configuration

Check = Callable[..., subprocess.CompletedProcess[str]]

SHOP = """\
import eventlet
eventlet.monkey_patch()

from nameko.events import BROADCAST, EventDispatcher, event_handler
from nameko.messaging import QueueConsumer
from nameko.rpc import RpcProxy, rpc
from nameko.standalone.rpc import ClusterRpcProxy
from nameko.web.handlers import http
from shop.helpers import greeting

import nameko.rpc


class MyQueueConsumer(QueueConsumer):
    accept = ["json"]

    def connection(self):
        return None


class Shop:
    name = "shop"

    dispatch = EventDispatcher(retry_policy={"max_retries": 5}, serializer="pickle")
    stock = RpcProxy("stock")

    @rpc(sensitive_variables="card")
    def buy(self, article, card):
        return nameko.rpc.Rpc.decorator

    @http("GET", "/articles")
    def articles(self, request):
        return greeting()

    @event_handler("stock", "empty", requeue_on_error=True)
    def reorder(self, event):
        pass


class Broken:
    name = "broken"

    @event_handler("stock", "empty", handler_type=BROADCAST)
    def note(self, event):
        pass
"""

HELPERS = """\
def greeting():
    try:
        from nameko.standalone.rpc import ConsumeEvent
    except ImportError:
        ConsumeEvent = None
    return "hello"


def other():
    import nameko.nothing
    import nameko.rpc
    return nameko.rpc.RpcProxi
"""

CONFIG = """\
AMQP_URI: pyamqp://guest:guest@localhost
"max_worker": 5
ACCEPT: [json, pickle]
serializer: pickle
HEARTBEAT: often
TRANSPORT_OPTIONS:
  max_retries: 3
"""


@pytest.fixture
def check(project: Any) -> Check:
    """`check(*arguments)` runs the command, in a process of its own: what it checks may monkey patch."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = project.nameko("migrate-check", *arguments)
        assert "Traceback" not in done.stderr
        return done

    return run


def findings(output: str, severity: str = "action|note") -> dict[str, list[tuple[str, str]]]:
    """What was found, and the remedy, by place."""
    found: dict[str, list[tuple[str, str]]] = {}
    pattern = rf"^(\S+): (?:{severity}): (.+)\n    (.+)$"
    for place, difference, remedy in re.findall(pattern, output, re.MULTILINE):
        found.setdefault(place, []).append((difference, remedy))
    return found


@pytest.fixture
def shop(project: Any) -> Any:
    """A package with two services of the old kind."""
    project.write("shop/__init__.py", "")
    project.write("shop/service.py", SHOP)
    project.write("shop/helpers.py", HELPERS)
    return project


EXPECTED = {
    "shop/helpers.py:3": ["no `ConsumeEvent`"],
    "shop/helpers.py:10": ["`nameko.nothing`|`nameko` has no `nothing`"],
    "shop/helpers.py:12": ["`nameko.rpc` has no `RpcProxi`"],
    "shop/service.py:2": ["monkey_patch"],
    "shop/service.py:15": ["MyQueueConsumer.accept"],
    "shop/service.py:17": ["MyQueueConsumer.connection"],
    "shop/service.py:21": ["500 with an id", "RpcTimeout", "within the process", "127.0.0.1:8000"],
    "shop/service.py:24": ["retry_policy", "pickle"],
    "shop/service.py:27": ["sensitive_variables"],
    "shop/service.py:35": ["grows"],
    "shop/service.py:40": ["cannot be made: .*broadcast"],
}


def test_each_finding_says_where_it_is_what_differs_and_what_to_do(shop: Any, check: Check) -> None:
    done = check("shop.service")

    found = findings(done.stdout)
    assert found.keys() == EXPECTED.keys()
    for place, patterns in EXPECTED.items():
        differences = [difference for difference, _ in found[place]]
        assert len(differences) == len(patterns), place
        for pattern, difference in zip(patterns, sorted(differences), strict=True):
            assert re.search(pattern, difference), place
    assert all(remedy for each in found.values() for _, remedy in each)
    assert done.stdout.splitlines()[-1] == "10 findings to act on, 5 notes."
    assert done.returncode == 1


def test_the_remedy_for_a_misspelt_or_a_removed_name_is_another_name(shop: Any, check: Check) -> None:
    found = findings(check("shop.service").stdout)

    assert "'RpcProxy'" in found["shop/helpers.py:12"][0][1]
    assert "call_async" in found["shop/helpers.py:3"][0][1]


@pytest.mark.parametrize(
    "source",
    [
        "import nameko.standalone.rpc\nnameko.standalone.rpc.ConsumeEvent",
        "import nameko.standalone.rpc as old\nold.ConsumeEvent",
        "from nameko.standalone import rpc\nrpc.ConsumeEvent",
    ],
)
def test_a_name_that_is_gone_is_found_however_its_module_is_called(project: Any, check: Check, source: str) -> None:
    project.write("script.py", f"{source}\n")

    found = findings(check("script").stdout, "action")

    assert "`nameko.standalone.rpc` has no `ConsumeEvent`" in found["script.py:2"][0][0]


def test_the_configuration_is_checked_too(shop: Any, check: Check) -> None:
    shop.write("config.yaml", CONFIG)

    found = findings(check("shop.service:Shop", "-c", "config.yaml", "-d", "WEB_SERVER_ADDRESS=0.0.0.0:80").stdout)

    in_config = {place: each[0] for place, each in found.items() if place.startswith("config.yaml")}
    assert sorted(place.partition(":")[2] for place in in_config) == ["2", "3", "4", "5", "6"]
    assert "'max_workers'" in in_config["config.yaml:2"][1]
    assert "ALLOW_PICKLE" in in_config["config.yaml:3"][1]
    assert "ALLOW_PICKLE" in in_config["config.yaml:4"][1]
    assert "HEARTBEAT" in in_config["config.yaml:5"][0]
    assert "START_TIMEOUT" in in_config["config.yaml:6"][1]


def test_what_is_configured_is_no_finding(project: Any, check: Check) -> None:
    project.write(
        "service.py",
        """
        from nameko.amqp.publish import Publisher
        from nameko.rpc import RpcProxy, rpc
        from nameko.standalone.rpc import ClusterRpcProxy
        from nameko.web.handlers import HttpRequestHandler
        from nameko.web.server import WebServer

        class OwnHandler(HttpRequestHandler):
            def response_from_exception(self, exc):
                return super().response_from_exception(exc)

        class OwnPublisher(Publisher):
            retry = False
            compression = "gzip"

        class OwnServer(WebServer):
            def get_wsgi_server(self, sock, wsgi_app, **options):
                return super().get_wsgi_server(sock, wsgi_app)

        http = OwnHandler.decorator

        class Service:
            name = "service"

            other = RpcProxy("other", serializer="pickle", retry=None)

            @rpc
            def hello(self, name):
                Publisher("pyamqp://", retry=False, compression="gzip")
                self.other.method.call_async()
                return self.other["call_async"](name)

            @http("GET", "/")
            def root(self, request):
                with ClusterRpcProxy({}) as cluster:
                    return cluster.other.hello.call_async()
        """,
    )
    project.write(
        "config.yaml",
        """
        AMQP_URI: pyamqp://guest:guest@localhost
        WEB_SERVER_ADDRESS: 0.0.0.0:8000
        serializer: pickle
        ALLOW_PICKLE: true
        RPC_TIMEOUT: 20
        RETRY_ATTEMPTS: 10
        RPC_EXPIRE_REQUESTS: true
        ACCEPT_COMPRESSION: [gzip]
        AMQP_SSL: {check_hostname: true}
        OWN_KEY: 1
        """,
    )

    done = check("service", "--config", "config.yaml")

    assert (done.stdout, done.returncode) == ("Nothing differs.\n", 0)


def test_an_extension_that_is_not_there_is_no_reason_to_look_no_further(project: Any, check: Check) -> None:
    project.write("service.py", "import nameko.rpc\nimport no_such_module\nnameko.rpc.NoSuchName\n")

    found = findings(check("service").stdout)

    assert "no_such_module" in found["service"][0][0]
    assert "NoSuchName" in found["service.py:3"][0][0]


def test_a_service_that_is_made_at_run_time_is_named(project: Any, check: Check) -> None:
    project.write(
        "service.py",
        """
        from nameko.rpc import rpc

        exec('class Service:\\n    name = "service"\\n    def hello(self): pass\\n    hello = rpc(hello)')
        """,
    )

    assert list(findings(check("service").stdout)) == ["service:Service"]


def test_a_module_that_does_not_import_is_a_finding(project: Any, check: Check) -> None:
    project.write("service.py", "from nameko.rpc import NoSuchName\n")

    done = check("service")

    found = findings(done.stdout)
    assert re.search("module 'service' cannot be imported: .*NoSuchName", found["service"][0][0])
    assert "`nameko.rpc` has no `NoSuchName`" in found["service.py:1"][0][0]
    assert done.returncode == 1


def test_the_remedy_for_a_script_that_fails_on_import_fits_a_script(project: Any, check: Check) -> None:
    project.write("script.py", "import sys\nimport nameko\nsys.exit('no arguments')\n")

    (remedy,) = [remedy for what, remedy in findings(check("script").stdout)["script"] if "cannot be imported" in what]

    assert "a service" in remedy
    assert '`if __name__ == "__main__":`' in remedy
    assert "in the same way" not in remedy


def test_a_module_that_is_no_python_is_a_finding(project: Any, check: Check) -> None:
    project.write("service.py", "import nameko.rpc\ndef broken(:\n")

    done = check("service")

    found = findings(done.stdout)
    assert "module 'service' cannot be imported: SyntaxError" in found["service"][0][0]
    assert found["service.py:2"][0][0] == "this is not Python: invalid syntax"
    assert (done.returncode, done.stderr) == (1, "")


def test_a_name_that_is_not_what_it_was_is_a_finding(project: Any, check: Check) -> None:
    project.write(
        "service.py",
        """
        from nameko.rpc import rpc
        from nameko.standalone.rpc import SingleThreadedReplyListener

        class Service:
            name = "service"

            @rpc
            def hello(self): pass
        """,
    )

    found = findings(check("service", "-d", "AMQP_URI=memory://").stdout)

    ((difference, remedy),) = [each for place in found.values() for each in place]
    assert "is made with the configuration" in difference
    assert "pass `timeout` to the proxy" in remedy


WEB = """\
from nameko.web.handlers import http

class Web:
    name = "web"

    @http("GET", "nosl/<")
    def broken(self, request): ...

    @http("GET", "/works")
    def works(self, request): ...
"""


def test_a_url_rule_that_a_service_would_not_start_with(project: Any, check: Check) -> None:
    project.write("web.py", WEB)

    done = check("web")

    refused = [each for each in findings(done.stdout)["web.py:3"] if "web.broken" in each[0]]
    assert len(refused) == 1
    assert re.search(r"'web': the service cannot be started: .*URL rule", refused[0][0])
    assert done.returncode == 1


def test_two_services_of_one_name(project: Any, check: Check) -> None:
    for module, name in ("first", "twin"), ("second", "twin"), ("third", "other"):
        project.write(
            f"{module}.py",
            f"from nameko.timer import timer\n\nclass Twin:\n    name = '{name}'\n\n"
            "    @timer(1)\n    def tick(self): ...\n",
        )

    done = check("first", "second", "second:Twin", "third")

    (found,) = findings(done.stdout).values()
    (finding,) = found
    assert "two services are called 'twin': first:Twin and second:Twin" in finding[0]
    assert "module:Class" in finding[1]
    assert done.returncode == 1
    assert check("first", "third").returncode == 0


CLEAN = """\
from nameko.events import event_handler
from nameko.rpc import rpc
from nameko.timer import timer
from nameko.web.handlers import http

class Clean:
    name = "clean"

    @rpc
    def method(self): ...

    @event_handler("other", "happened")
    def note(self, event): ...

    @http("GET", "/")
    def page(self, request): ...

    @timer(interval=1)
    def tick(self): ...
"""
CLEAN_CONFIG = "AMQP_URI: pyamqp://guest:guest@localhost\nWEB_SERVER_ADDRESS: 0.0.0.0:8000\n"


def test_notes_alone_are_shown_and_let_a_gate_pass_unless_it_is_strict(project: Any, check: Check) -> None:
    project.write("clean.py", CLEAN)
    project.write("config.yaml", CLEAN_CONFIG)

    lenient = check("clean", "-c", "config.yaml")
    strict = check("clean", "-c", "config.yaml", "--strict")

    assert "500 with an id" in findings(lenient.stdout, "note")["clean.py:6"][0][0]
    assert (findings(lenient.stdout, "action"), lenient.returncode) == ({}, 0)
    assert lenient.stdout.endswith("\nNothing to act on, 1 note.\n")
    assert strict.stdout.endswith("\nNothing to act on, 1 note: --strict counts them.\n")
    assert strict.returncode == 1


def test_json_is_for_programs_whatever_a_module_prints(project: Any, check: Check) -> None:
    project.write("clean.py", f"print('hello')\n{CLEAN}")
    project.write("config.yaml", "AMQP_URI: pyamqp://guest:guest@localhost\n")

    done = check("clean", "nothere", "-c", "config.yaml", "--json")

    found = json.loads(done.stdout)
    assert [(each["severity"], each["file"], each["line"]) for each in found] == [
        ("action", "clean.py", 7),
        ("action", "nothere", None),
        ("note", "clean.py", 7),
    ]
    assert all(each["difference"] and each["remedy"] for each in found)
    assert (done.stderr, done.returncode) == ("hello\n", 1)


def test_a_key_whose_variable_is_not_set_is_not_configured(project: Any, check: Check) -> None:
    project.write("clean.py", f"{CLEAN}\n    from nameko.rpc import RpcProxy\n    other = RpcProxy('other')\n")
    keys = ("AMQP_URI", "RPC_TIMEOUT", "WEB_SERVER_ADDRESS")
    project.write("config.yaml", "".join(f"{key}: ${{NOT_SET_ANYWHERE}}\n" for key in keys))

    actions = findings(check("clean", "-c", "config.yaml").stdout, "action")["clean.py:6"]

    assert [next(key for key in keys if key in f"{each}") for each in actions] == ["RPC_TIMEOUT", *keys[::2]]


def test_code_that_runs_under_both_versions_needs_no_change(project: Any, check: Check) -> None:
    project.write(
        "clean.py",
        f"""
try:
    from nameko.standalone.rpc import ConsumeEvent
    import nameko.amqp.consume
except (ImportError, AttributeError):
    ConsumeEvent = None
{CLEAN}""",
    )
    project.write("config.yaml", CLEAN_CONFIG)

    done = check("clean", "-c", "config.yaml")

    notes = findings(done.stdout, "note")
    assert "goes on without it" in notes["clean.py:3"][0][0]
    assert "goes on without it" in notes["clean.py:4"][0][0]
    assert done.returncode == 0


def test_scripts_are_checked_although_they_are_no_services(project: Any, check: Check) -> None:
    project.write(
        "script.py",
        "from nameko.standalone.rpc import ClusterRpcProxy\n\ndef main():\n    return ClusterRpcProxy({})\n",
    )
    project.write("empty.py", "import json\n")

    script, empty = check("script"), check("empty")

    assert "`RpcTimeout`" in findings(script.stdout, "action")["script.py:4"][0][0]
    assert "only its source" in findings(script.stdout, "note")["script"][0][0]
    assert "nothing to check" in findings(empty.stdout, "action")["empty"][0][0]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("nothere", "no module named 'nothere'"),
        ("clean.py", "did you mean 'clean'?"),
        ("clean:Cleen", "did you mean 'Clean'?"),
    ],
)
def test_a_name_that_is_none_does_not_keep_others_from_being_checked(
    project: Any, check: Check, spec: str, expected: str
) -> None:
    project.write("clean.py", CLEAN)

    actions = findings(check(spec, "clean").stdout, "action")

    assert expected in actions[spec][0][0]
    assert "as `nameko run` takes it" in actions[spec][0][1]
    assert "WEB_SERVER_ADDRESS" in actions["clean.py:6"][1][0]


#: What becomes of an argument, or of a class attribute, by what it is.
SEVERITIES = {
    "EventDispatcher(retry=False)": "action",
    "EventDispatcher(retry=name)": "action",
    "EventDispatcher(retry=True)": "note",
    "EventDispatcher(retry_policy=name)": "note",
    "EventDispatcher(serializer='pickle')": "action",
    "EventDispatcher(compression='gzip')": "action",
    "EventDispatcher(compression=None)": None,
    "RpcProxy('other', use_confirms=False)": "note",
    "RpcProxy('other', use_confirms=True)": None,
    "EventDispatcher(use_confirms=False)": None,
    "event_handler('a', 'b', requeue_on_error=True)": "action",
    "event_handler('a', 'b', requeue_on_error=False)": None,
    "event_handler('a', 'b', name, True, True)": "action",
    "event_handler('a', 'b', name, True)": None,
    "consume(queue, requeue_on_error=name)": "action",
    "consume(*name, True)": None,
    "rpc(sensitive_variables='a')": "note",
    "rpc(retry=Retry())": None,
    "self.other.method.call_async()": "action",
    "reply = self.other.method.call_async()": None,
}


def test_an_argument_is_an_action_where_data_calls_or_security_could_break(project: Any, check: Check) -> None:
    project.write("script.py", "\n".join(["import nameko", "def never():", *(f"    {call}" for call in SEVERITIES)]))

    done = check("script", "-d", "RPC_TIMEOUT=1")

    found = {severity: findings(done.stdout, severity) for severity in ("action", "note")}
    lines = {call: f"script.py:{line}" for line, call in enumerate(SEVERITIES, start=3)}
    assert {
        call: next((severity for severity, places in found.items() if place in places), None)
        for call, place in lines.items()
    } == SEVERITIES


def test_a_decision_about_retries_is_one_to_be_made_once(project: Any, check: Check) -> None:
    project.write("script.py", "import nameko\ndef never(): event_handler('a', 'b', requeue_on_error=True)\n")

    done = check("script", "-d", "RETRY_ATTEMPTS=7")

    assert "7 times in all" in findings(done.stdout, "note")["script.py:2"][0][0]
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("config", "differs"),
    [
        ({"AMQP_SSL": True}, True),
        ({"AMQP_SSL": {"ca_certs": "ca.pem", "cert_reqs": "CERT_REQUIRED"}}, True),
        ({"AMQP_URI": "amqps://localhost"}, True),
        ({"AMQP_URI": "AMQPS://localhost"}, True),
        ({"AMQP_URI": "amqp://a; PyAmqpS://b"}, True),
        ({"AMQP_URI": "amqp://a/amqps://;amqp://b"}, False),
        ({"AMQP_URI": "amqps://localhost", "AMQP_SSL": {"server_hostname": "localhost"}}, False),
        ({"AMQP_SSL": {"verify": False}}, False),
        ({"AMQP_SSL": {"cert_reqs": 0}}, False),
        ({"AMQP_SSL": False, "AMQP_URI": "amqp://localhost"}, False),
    ],
)
def test_what_is_verified_of_the_broker_is_a_decision(config: dict[str, Any], differs: bool) -> None:
    found = list(check_configuration(config, {}, None))

    assert [finding.severity for finding in found] == [Severity.ACTION] * differs
    assert all("verified" in finding.difference for finding in found)
