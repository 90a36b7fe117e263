"""Files are dealt with at least once, whatever happens to the processes that do it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from nameko_spool import OnFile, _plugin, on_file
from nameko_spool._claim import Claim

from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.testing.plugins import EntrypointConformance, PluginConformance, run_service, wait_until

SOON = {"SPOOL_INTERVAL_S": 0.01}


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    path = tmp_path / "spool"
    path.mkdir()
    return path


def put(spool: Path, name: str, text: str = "") -> None:
    (spool / f".{name}").write_text(text)
    (spool / f".{name}").rename(spool / name)


def waiting(spool: Path) -> list[str]:
    return sorted(path.name for path in spool.iterdir() if path.is_file())


def make_service(spool: Path, method: Callable[[Path], object]) -> type:
    class Service:
        name = "service"

        @on_file(spool)
        def take(self, path: Path) -> None:
            method(path)

    return Service


class TestOnFile(EntrypointConformance):
    @pytest.fixture(autouse=True)
    def directory(self, spool: Path) -> None:
        self.spool = spool
        self.number = 0

    def make_extension(self) -> OnFile:
        return OnFile(self.spool)

    def make_config(self) -> dict[str, object]:
        return dict(SOON)

    def trigger(self, container: ServiceContainer) -> None:
        self.number += 1
        put(self.spool, f"file-{self.number}")


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin


def test_a_file_that_is_dealt_with_is_removed(spool: Path) -> None:
    texts: list[str] = []
    put(spool, "a", "there before")
    with run_service(make_service(spool, lambda path: texts.append(path.read_text())), SOON):
        put(spool, "b", "comes later")
        wait_until(lambda: not waiting(spool))
    assert sorted(texts) == ["comes later", "there before"]


def test_a_file_whose_method_fails_is_set_aside(spool: Path) -> None:
    with run_service(make_service(spool, lambda path: 1 / 0), SOON):
        put(spool, "a", "text")
        wait_until(lambda: (spool / "failed/a").exists())
    assert waiting(spool) == []
    assert (spool / "failed/a").read_text() == "text"


def test_what_is_no_file_or_not_complete_is_left_alone(spool: Path, tmp_path: Path) -> None:
    (spool / ".incomplete").touch()
    (spool / "directory").mkdir()
    (tmp_path / "elsewhere").touch()
    (spool / "link").symlink_to(tmp_path / "elsewhere")
    names: list[str] = []
    with run_service(make_service(spool, lambda path: names.append(path.name)), SOON):
        put(spool, "a")
        wait_until(lambda: names == ["a"] and not (spool / "a").exists())
    assert waiting(spool) == [".incomplete", "link"]


def test_two_services_share_a_directory(spool: Path) -> None:
    names: list[str] = []
    service = make_service(spool, lambda path: names.append(path.name))
    for number in range(50):
        put(spool, f"{number:02}")
    with run_service(service, SOON), run_service(service, SOON):
        wait_until(lambda: not waiting(spool))
    assert sorted(names) == [f"{number:02}" for number in range(50)]


def test_a_claim_is_exclusive(spool: Path) -> None:
    put(spool, "a")
    claim = Claim.on(spool / "a")
    assert claim is not None
    assert Claim.on(spool / "a") is None
    claim.release()
    again = Claim.on(spool / "a")
    assert again is not None
    again.finish()
    assert Claim.on(spool / "a") is None


KILLED = """
    import os, sys
    from nameko.concurrency import monkey_patch
    monkey_patch()
    from nameko.concurrency import Event
    from nameko.runners import run_services
    from nameko_spool import on_file

    class Service:
        name = "service"

        @on_file(sys.argv[1])
        def take(self, path):
            print("taken", flush=True)
            Event().wait()

    with run_services({"SPOOL_INTERVAL_S": 0.01, "max_workers": 1}, Service) as runner:
        runner.wait()
"""


def test_a_file_of_a_process_that_dies_is_taken_by_another(spool: Path) -> None:
    put(spool, "a", "precious")
    texts: list[str] = []
    service = make_service(spool, lambda path: texts.append(path.read_text()))
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(spool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "taken\n"
            with run_service(service, SOON):
                put(spool, "b", "another")
                put(spool, "c", "another")
                wait_until(lambda: texts)  # the other process may hold one of them, until it has a free worker
                assert set(texts) == {"another"}
                process.kill()
                wait_until(lambda: not waiting(spool))
        finally:
            process.kill()
    assert sorted(texts) == ["another", "another", "precious"]


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="nowhere cannot be used: No such file or directory"),
        run_service(make_service(tmp_path / "nowhere", print)),
    ):
        pass


def test_it_is_not_ready_while_the_directory_is_away(spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    names: list[str] = []
    with run_service(make_service(spool, lambda path: names.append(path.name)), SOON, plugins=[_plugin]) as container:
        assert container.not_ready_reasons() == []
        spool.rename(spool.with_name("away"))
        assert container.not_ready_reasons() == [f"{spool} cannot be read and written"]
        wait_until(lambda: "could not look into" in caplog.text)
        spool.with_name("away").rename(spool)
        put(spool, "a")
        wait_until(lambda: names == ["a"])
