"""`nameko run` as a process: what it says, what signals do to it, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

TickService = Callable[..., Any]

LOOP = "while True:\n" + " " * 24 + "pass"


def test_from_start_to_stop(project: Any, tick_service: TickService) -> None:
    tick_service("print('tick', flush=True)")
    process = project.start("run", "ticking")
    process.expect("services ready")
    process.expect("tick\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    lines = [line for line in process.output.splitlines() if line != "tick"]
    assert lines[1:3] == ["starting services: ticking", "services ready: ticking"]
    assert "SIGTERM: stopping" in lines
    assert "stopping services: ticking" in lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(project: Any, tick_service: TickService, number: signal.Signals) -> None:
    tick_service("print('begun', flush=True); time.sleep(1); print('done', flush=True)")
    process = project.start("run", "ticking")
    process.expect("begun")
    process.send_signal(number)
    assert process.wait() == 0
    assert process.output.count("begun") == process.output.count("done")
    assert "Traceback" not in process.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_kills(project: Any, tick_service: TickService, number: signal.Signals) -> None:
    tick_service("print('begun', flush=True); time.sleep(30)")
    process = project.start("run", "ticking")
    process.expect("begun")
    process.send_signal(number)
    process.expect(f"{number.name}: stopping")
    sent_at = time.monotonic()
    process.send_signal(number)
    assert process.wait() == 128 + number
    assert time.monotonic() - sent_at < 5
    assert "killing services: ticking" in process.output


def test_a_service_that_burns_cpu_cannot_hold_off_the_second_signal(project: Any, tick_service: TickService) -> None:
    tick_service(f"time.sleep(0.1); print('begun', flush=True)\n{' ' * 20}{LOOP}")
    process = project.start("run", "ticking")
    process.expect("begun")
    for _ in range(2):
        process.deliver_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM


def test_draining_takes_no_longer_than_allowed_even_when_nothing_yields(
    project: Any, tick_service: TickService
) -> None:
    tick_service(f"print('begun', flush=True)\n{' ' * 20}{LOOP}")
    process = project.start("run", "-d", "SHUTDOWN_TIMEOUT=1", "ticking")
    process.expect("begun")
    sent_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 1
    assert 2.5 < time.monotonic() - sent_at < 8


def test_the_third_signal_ends_at_once(project: Any, tick_service: TickService) -> None:
    tick_service(f"print('begun', flush=True)\n{' ' * 20}{LOOP}")
    process = project.start("run", "ticking")
    process.expect("begun")
    sent_at = time.monotonic()
    for _ in range(3):
        process.deliver_signal(signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - sent_at < 1


def test_no_keyboard_interrupt_reaches_a_service(project: Any, tick_service: TickService) -> None:
    body = """print('begun', flush=True)
                    try:
                        ends_at = time.monotonic() + 1
                        while time.monotonic() < ends_at:
                            pass
                        print('done', flush=True)
                    except BaseException as exc:
                        print('struck by', repr(exc), flush=True)"""
    tick_service(body)
    process = project.start("run", "ticking")
    process.expect("begun")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0
    assert "done" in process.output
    assert "struck by" not in process.output


def test_an_idle_process_notices_a_signal_at_once(project: Any, tick_service: TickService) -> None:
    path = tick_service("pass")
    path.write_text(path.read_text().replace("spawn_managed_thread(self.run)", "service_name"))
    process = project.start("run", "ticking")
    process.expect("services ready")
    process.expect_idle()
    sent_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
    assert time.monotonic() - sent_at < 3


def test_a_signal_ends_a_start_that_takes_long(project: Any, tick_service: TickService) -> None:
    path = tick_service("pass")
    path.write_text(
        path.read_text().replace(
            "def start(self):",
            "def setup(self):\n        print('set up')\n        concurrency.sleep(60)\n    def start(self):",
        )
    )
    process = project.start("run", "ticking")
    process.expect("set up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout_s=5) == 0
    assert "services ready" not in process.output


def test_a_failure_while_running_ends_the_process(project: Any, tick_service: TickService) -> None:
    path = tick_service("pass")
    path.write_text(path.read_text().replace("while not self.stopped:", "while 1 / 0:"))
    process = project.start("run", "ticking")
    assert process.wait() == 1
    assert "ZeroDivisionError: division by zero" in process.output


def test_an_ignored_interrupt_stays_ignored(project: Any, tick_service: TickService) -> None:
    tick_service("print('tick', flush=True)")
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as shells start background jobs
    try:
        process = project.start("run", "ticking")
    finally:
        signal.signal(signal.SIGINT, previous)
    process.expect("services ready")
    process.send_signal(signal.SIGINT)
    count = process.output.count("tick\n")
    process.expect("tick\n" * (count + 3))
    assert "SIGINT" not in process.output
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0


SEVERAL = """
    from nameko.extensions import Entrypoint

    class Idle(Entrypoint):
        pass

    idle = Idle.decorator

    class Base:
        @idle
        def method(self):
            pass

    class First(Base):
        name = "first"

    class Second(Base):
        name = "second"

    class NotOne:
        name = "not_one"
"""


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["several"], "first, second"),
        (["several:Second"], "second"),
        (["several:Second", "several:First"], "second, first"),
        (["several:First", "several"], "first, second"),
        (["several:NotOne"], "not_one"),
        (["package.inner:First"], "inner"),
        (["reexporting"], "first"),
        (["http:First"], "local_http"),
    ],
)
def test_which_services_are_hosted(
    project: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str], names: str
) -> None:
    from nameko.cli.run import import_services

    project.write("several.py", SEVERAL)
    project.write("package/inner.py", SEVERAL.replace('"first"', '"inner"').replace('"second"', "None"))
    project.write("reexporting.py", "from several import First\n")
    project.write("http.py", SEVERAL.replace('"first"', '"local_http"').replace('"second"', "None"))
    monkeypatch.chdir(project.path)
    monkeypatch.syspath_prepend(str(project.path))
    assert ", ".join(cls.name for cls in import_services(arguments)) == names  # type: ignore[attr-defined]


def test_a_module_named_like_one_of_the_standard_library(project: Any) -> None:
    # The documentation's example is called http.py.
    project.write(
        "http.py",
        """
        import http.client
        import urllib.request
        from nameko.extensions import Entrypoint

        class Idle(Entrypoint):
            def start(self):
                print(__name__, http.client.HTTPConnection.__name__, flush=True)
                raise SystemExit(0)

        class Service:
            name = "http_service"

            @Idle.decorator
            def method(self):
                pass
        """,
    )
    # The installed script does not put the current directory on the path before the standard library, `-m` does.
    program = "import sys; sys.path.remove(''); from nameko.cli.main import main; main(['run', 'http'])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=project.path,
        env=project.environ,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "http HTTPConnection\n"
    assert "starting services: http_service" in done.stderr


def test_logging_as_configured(project: Any, tick_service: TickService) -> None:
    tick_service("import logging; logging.getLogger('mine').warning('logged')")
    project.write(
        "config.yaml",
        """
        LOGGING:
          version: 1
          disable_existing_loggers: false
          formatters: {short: {format: "<%(levelname)s %(name)s> %(message)s"}}
          handlers: {out: {class: logging.StreamHandler, formatter: short, stream: ext://sys.stdout}}
          root: {level: INFO, handlers: [out]}
        """,
    )
    process = project.start("run", "--config", "config.yaml", "ticking")
    process.expect("<WARNING mine> logged")
    assert "<INFO nameko.runners> starting services: ticking" in process.output


def test_the_configuration_is_the_same_everywhere(project: Any, tick_service: TickService) -> None:
    path = tick_service(
        """from nameko import config
                    print(config is given, config["A"], config["B"], config["max_workers"], flush=True)"""
    )
    path.write_text(
        path.read_text().replace(
            "def run(self):", "def run(self):\n        global given; given = self.container.config"
        )
    )
    project.write("config.yaml", "A: ${FROM_ENVIRONMENT}\nB: file\nmax_workers: 2\n")
    project.environ["FROM_ENVIRONMENT"] = "[1, 2]"
    process = project.start("run", "-c", "config.yaml", "-d", "B={over: 1}", "--define", "max_workers=3", "ticking")
    process.expect("True [1, 2] {'over': 1} 3\n")


def test_a_process_leaves_nothing_behind(project: Any, tick_service: TickService) -> None:
    tick_service("print('tick', flush=True)")
    process = project.start("run", "ticking")
    process.expect("tick")
    threads = os.listdir(f"/proc/{process.pid}/task")
    assert len(threads) <= 3  # the main one, the one that watches over the shutdown, and a spare
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 0
