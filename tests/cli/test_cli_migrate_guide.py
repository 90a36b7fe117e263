"""`nameko migrate-check` knows the guide to migration: it reports each line of it, or nothing in a service shows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nameko.cli._migration._classes import CLIENT_NAMES
from nameko.rpc import Client

GUIDE = Path(__file__).parents[2] / "docs" / "migration.md"


def service(
    before: str = "", *, attribute: str = "", entrypoint: str = "rpc", body: str = "pass", imported: str = "rpc.rpc"
) -> str:
    """The source of a service."""
    module, _, name = imported.rpartition(".")
    lines = [
        f"from nameko.{module} import {name}",
        before,
        "class Service:",
        "    name = 'service'",
        f"    {attribute}",
        f"    @{entrypoint}",
        "    def method(self, *args):",
        f"        {body}",
    ]
    return "\n".join(lines)


SERVICE = service()
HTTP_SERVICE = service(imported="web.handlers.http", entrypoint="http('GET', '/')")
CONFIG = """
ACCEPT: [json, pickle]
LOGGING: often
max_worker: 5
TRANSPORT_OPTIONS: {max_retries: 3}
AMQP_SSL: true
rpc_exchange: amq.direct
"""


@dataclass(frozen=True)
class Reported:
    """Found in a service with this source, or in CONFIG: as an action, or as a note."""

    difference: str
    source: str = SERVICE
    severity: str = "action"


@dataclass(frozen=True)
class Refused:
    """The command shows this error, as `nameko run` does, and ends with status 1."""

    error: str
    config: str
    severity = "action"


@dataclass(frozen=True)
class Hidden:
    """Nothing shows it before the service runs."""

    because: str
    severity = "-"


EVERY_SERVICE = Hidden("it is the same for every service: none has anything in it by which it could be told")
COMMAND_LINE = Hidden("it is about who types commands, not about services")
NO_DIFFERENCE = Hidden("it is as in nameko 2.14: the guide says so for authors of extensions")

#: By the beginning of the line of the guide.
LINES: dict[str, Reported | Refused | Hidden] = {
    "no `AMQP_URI` |": Reported("without `AMQP_URI` the broker is one within the process"),
    "no `AMQP_URI` for": Hidden("it is an error in nameko 2.14, so nobody has it"),
    "an `@` behind the host": Refused("there is an `@` behind the host", "AMQP_URI: amqp://host/a@b\n"),
    "RPC without a reply": Reported(
        "calls of other services end with `RpcTimeout`",
        service("from nameko.rpc import RpcProxy", attribute="other = RpcProxy('other')"),
    ),
    "a request that no service takes": Reported(
        "a request that no service takes within `RPC_TIMEOUT` is dropped",
        service(
            "from nameko.rpc import RpcProxy", attribute="other = RpcProxy('other')", body="self.other.a.call_async()"
        ),
    ),
    "a standalone proxy whose connection": Hidden("connections are lost while it runs"),
    "what a worker changes": Hidden("it is decided while a method runs"),
    "an RPC method raises": Hidden("what a method raises shows when it does"),
    "HTTP address": Reported("listens on 127.0.0.1:8000", HTTP_SERVICE),
    "HTTP: an exception of werkzeug": Reported("such as `NotFound`, it has the status", HTTP_SERVICE, "note"),
    "HTTP: a method that": Hidden("what a method returns shows when it does"),
    "HTTP: an exception that": Reported("the answer is 500 with an id", HTTP_SERVICE, "note"),
    "a failing event": Reported(
        "after a delay that grows",
        service(imported="events.event_handler", entrypoint="event_handler('a', 'b', requeue_on_error=True)"),
    ),
    "compressed messages": Reported(
        "services of nameko 3 refuse compressed messages",
        service(
            "from nameko.events import EventDispatcher", attribute="dispatch = EventDispatcher(compression='gzip')"
        ),
    ),
    "dates, decimals": Hidden("what is sent shows when it is"),
    "`NaN` and": Hidden("what is sent shows when it is"),
    "a queue at its limit": Hidden("what the broker refuses shows when it does"),
    "large messages": Hidden("what is sent shows when it is"),
    "headers of a message": Hidden("what is sent shows when it is"),
    "HTTP: requests without": Hidden("what clients send shows when they do"),
    "HTTP: the access log": EVERY_SERVICE,
    "websockets: what": Hidden("what clients send shows when they do"),
    "`AMQP_SSL`, or": Reported("the certificate of the broker is verified, chain and host name"),
    "pickle in": Reported("`ACCEPT` names pickle"),
    "`retry=False`": Reported(
        "`retry` has no effect",
        service("from nameko.events import EventDispatcher", attribute="dispatch = EventDispatcher(retry=False)"),
    ),
    "`retry_policy`": Reported(
        "`retry_policy` has no effect",
        service("from nameko.rpc import RpcProxy", attribute="other = RpcProxy('other', retry_policy={})"),
        "note",
    ),
    "an option that an RPC client": Reported(
        "no such option: time_out (did you mean 'timeout'?)",
        service("from nameko.rpc import RpcProxy", attribute="other = RpcProxy('other', time_out=3)"),
    ),
    "`rpc_exchange`": Reported("`rpc_exchange` `amq.direct` cannot carry RPC"),
    "`max_retries`": Reported("`max_retries` of `TRANSPORT_OPTIONS` is ignored", severity="note"),
    "`eventlet.monkey_patch()`": Reported(
        "does nothing in a service", service("import eventlet\neventlet.monkey_patch()"), "note"
    ),
    "`sensitive_variables`": Reported(
        "`sensitive_variables` is deprecated", service(entrypoint="rpc(sensitive_variables='args')"), "note"
    ),
    "publishing, dispatching or calling": Hidden("it is decided while a method runs"),
    "a service class's constructor": Hidden("what a constructor raises shows when it does"),
    "a service that does not stop": EVERY_SERVICE,
    "the broker goes away": EVERY_SERVICE,
    "the broker is away at start": EVERY_SERVICE,
    "Errors go to stderr": COMMAND_LINE,
    "`nameko run --broker URI`": COMMAND_LINE,
    "`nameko show-config`": COMMAND_LINE,
    "`nameko run` tells": COMMAND_LINE,
    "`--backdoor`": COMMAND_LINE,
    "A YAML file with a key twice": Refused("line 2, column 1: key 'a' stands twice, first on line 1", "a: 1\na: 2\n"),
    "A value of the wrong type": Reported("'LOGGING' must be of"),
    "A key that looks": Reported("'max_worker' is not known", severity="note"),
    "A subclass of `ServiceContainer`": Reported(
        "`Own.spawn_worker` gets keyword arguments that it does not take: headers, message, still_wanted",
        service(
            "from nameko.containers import ServiceContainer\n"
            "class Own(ServiceContainer):\n"
            "    def spawn_worker(self, entrypoint, args, kwargs, *, fired_at=None): pass"
        ),
    ),
    "A subclass of `WebServer`": Reported(
        "what `Own.get_wsgi_server` returns has to be a server like nameko's own",
        service(
            "from nameko.web.server import WebServer\n"
            "class Own(WebServer):\n"
            "    def get_wsgi_server(self, sock, wsgi_app, **options): return None"
        ),
    ),
    "nameko-amqp-retry": Reported(
        "No module named 'pkg_resources'", service("raise ImportError(\"No module named 'pkg_resources'\")")
    ),
    "A caller has each request dropped": Hidden("it is about the service that is called, which is one of nameko 2.14"),
    "`nameko.standalone.rpc.SingleThreadedReplyListener`": Reported(
        "made with the configuration", service("from nameko.standalone.rpc import SingleThreadedReplyListener")
    ),
    "`nameko.standalone.rpc.PollingQueueConsumer`": Reported(
        "no `PollingQueueConsumer`", service("from nameko.standalone.rpc import PollingQueueConsumer")
    ),
    "`nameko.standalone.rpc.ConsumeEvent`": Reported(
        "no `ConsumeEvent`",
        service("import nameko.standalone.rpc", body="return nameko.standalone.rpc.ConsumeEvent"),
    ),
    "`nameko.amqp.consume.Consumer`": Reported(
        "`nameko.amqp.consume` cannot be imported", service("from nameko.amqp.consume import Consumer")
    ),
    "`nameko.messaging.QueueConsumer`": Reported(
        "`Own.amqp_uri` has no effect",
        service("from nameko.messaging import QueueConsumer\nclass Own(QueueConsumer):\n    amqp_uri = 'memory://'"),
    ),
    "A `nameko.messaging.Publisher`": NO_DIFFERENCE,
    "The standalone `event_dispatcher` takes the options": NO_DIFFERENCE,
    "What a standalone proxy's": NO_DIFFERENCE,
    "What the release candidates": Reported(
        "`Own.check_for_lost_replies` has no effect",
        service(
            "from nameko.rpc import ReplyListener\n"
            "class Own(ReplyListener):\n"
            "    def check_for_lost_replies(self): pass"
        ),
        "note",
    ),
    "`uri`, `ssl` and `login_method`": Reported(
        "no such option: uri",
        service("from nameko.rpc import ClusterRpc", attribute="others = ClusterRpc(uri='pyamqp://elsewhere')"),
    ),
    "A remote method that is called": Reported(
        "`self.other.call_async` is of the client itself",
        service(
            "from nameko.rpc import RpcProxy",
            attribute="other = RpcProxy('other')",
            body="return self.other.call_async(1)",
        ),
    ),
}
#: Further cases of a line.
MORE = [
    Reported(
        "calls of a `ClusterRpcProxy` end with `RpcTimeout`",
        service("from nameko.standalone.rpc import ClusterRpcProxy as Proxy", body="return Proxy({})"),
    ),
    Reported(
        "`queue` of a `Publisher` is deprecated",
        service(
            "from kombu import Exchange, Queue\nfrom nameko.messaging import Publisher",
            attribute="publish = Publisher(queue=Queue('a', Exchange('a')))",
        ),
        "note",
    ),
    Reported(
        "`Own.use_confirms` has no effect",
        service("from nameko.messaging import Publisher\nclass Own(Publisher):\n    use_confirms: bool = False"),
        "note",
    ),
    Reported(
        "`Own.consumer_cls` has no effect",
        service("from nameko.messaging import Consumer\nclass Own(Consumer):\n    consumer_cls = None"),
    ),
    Reported(
        "an `RpcCall` is made by its client",
        service("import nameko.rpc", body="return nameko.rpc.RpcCall(1)"),
    ),
    Reported(
        "`Own.retry` has no effect",
        service("from nameko.messaging import Publisher\nclass Own(Publisher):\n    retry = False"),
    ),
    Reported(
        "`use_confirms` has no effect on calls",
        service("from nameko.rpc import RpcProxy", attribute="other = RpcProxy('other', use_confirms=False)"),
        "note",
    ),
    Reported(
        "`Own` has no effect: the web server",
        service("from nameko.web.server import HttpOnlyProtocol\nclass Own(HttpOnlyProtocol): pass"),
    ),
    Reported(
        "services of nameko 3 refuse compressed messages",
        service("from nameko.amqp.publish import Publisher\nclass Own(Publisher):\n    compression = 'gzip'"),
    ),
    Reported(
        "services of nameko 3 refuse compressed messages",
        service("from nameko.amqp.publish import Publisher", body="Publisher('pyamqp://', compression='gzip')"),
    ),
    Reported(
        "after a delay that grows",
        service("from kombu import Queue", imported="messaging.consume", entrypoint="consume(Queue('a'), True)"),
    ),
    Reported(
        "pickle runs whatever code",
        service("from nameko.messaging import Publisher", attribute="publish = Publisher(serializer='pickle')"),
    ),
]


#: How lines begin that say what to do about another one.
HOW_TO = ("Bring the kombu", "Or keep the strings")


def lines_of_the_guide() -> list[str]:
    """The rows of its tables, and the items of its lists, from the tables of differences on."""
    text = GUIDE.read_text().partition("\n## What services notice\n")[2]
    marked = re.findall(r"^(?:\| |- )(.+)$", text, re.MULTILINE)
    headings = [row for row, _ in re.findall(r"^\| (.+)\n(\|-.+)$", text, re.MULTILINE)]
    marked = [line for line in marked if not line.startswith(HOW_TO)]
    return [line for line in marked if line not in headings]


@pytest.mark.parametrize("line", lines_of_the_guide())
def test_each_line_of_the_guide_is_known_here(line: str) -> None:
    assert len([start for start in LINES if line.startswith(start)]) == 1


def test_the_guide_says_which_differences_need_something_to_be_done() -> None:
    rows = [line for line in lines_of_the_guide() if line.count(" | ") == 3]
    said = {row.rpartition(" | ")[2].removesuffix(" |"): row for row in rows}
    assert said.keys() == {"action", "note", "-"}
    for row in rows:
        (known,) = [line for start, line in LINES.items() if row.startswith(start)]
        assert row.endswith(f" | {known.severity} |")


def test_what_is_known_here_is_in_the_guide() -> None:
    lines = lines_of_the_guide()
    assert [start for start in LINES if not any(line.startswith(start) for line in lines)] == []


def test_everything_that_shows_is_reported_with_its_place_and_a_remedy(project: Any) -> None:
    reported = [line for line in [*LINES.values(), *MORE] if isinstance(line, Reported)]
    modules = [f"service_{number}" for number in range(len(reported))]
    for module, line in zip(modules, reported, strict=True):
        project.write(f"{module}.py", line.source)
    project.write("config.yaml", CONFIG)

    done = project.nameko("migrate-check", *modules, "--config", "config.yaml")

    found = re.findall(r"^(\S+): (action|note): (.+)\n    (\S.+)$", done.stdout, re.MULTILINE)
    for module, line in zip(modules, reported, strict=True):
        places = re.compile(rf"{module}(\.py:\d+)?|config\.yaml:\d+")
        severities = {each for place, each, text, _ in found if places.fullmatch(place) and line.difference in text}
        assert severities == {line.severity}, (
            f"{line.difference!r} is not reported so for {module}:\n{line.source}\n{done.stdout}{done.stderr}"
        )


@pytest.mark.parametrize("line", [line for line in LINES.values() if isinstance(line, Refused)])
def test_what_cannot_be_read_is_refused(project: Any, line: Refused) -> None:
    project.write("service.py", SERVICE)
    project.write("config.yaml", line.config)

    done = project.nameko("migrate-check", "service", "--config", "config.yaml")

    assert line.error in done.stdout + done.stderr
    assert done.returncode == 1


def test_the_names_that_clients_keep_for_themselves_are_known() -> None:
    assert {name for name in dir(Client) if not name.startswith("_")} == CLIENT_NAMES
