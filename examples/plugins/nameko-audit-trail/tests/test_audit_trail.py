"""What is written down, and that nothing is noticed by those of whom it is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nameko_audit_trail import MAX_LINE_BYTES, AuditTrail

from nameko.exceptions import ConfigurationError
from nameko.testing.plugins import PluginConformance, run_service
from nameko.testing.services import dummy, entrypoint_hook


class Service:
    name = "service"

    @dummy
    def method(self, divisor: int) -> float:
        return 1 / divisor


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class TestPlugin(PluginConformance):
    @pytest.fixture(autouse=True)
    def file(self, path: Path) -> None:
        self.path = path

    def make_plugin(self) -> AuditTrail:
        return AuditTrail()

    def make_config(self) -> dict[str, object]:
        return {"AUDIT_FILE": str(self.path)}


class TestPluginThatIsNotConfigured(PluginConformance):
    def make_plugin(self) -> AuditTrail:
        return AuditTrail()


def test_calls_are_written_down(path: Path) -> None:
    with (
        run_service(Service, {"AUDIT_FILE": str(path)}, plugins=["audit-trail"]) as container,
        entrypoint_hook(container, "method", context_data={"call_id_stack": ["caller.1"]}) as method,
    ):
        method(2)
        with pytest.raises(ZeroDivisionError):
            method(0)
    written = lines(path)
    assert [line["event"] for line in written] == ["started", "returned", "raised ZeroDivisionError", "stopped"]
    assert {line["service"] for line in written} == {"service"}
    assert written[1]["method"] == "method"
    assert written[1]["calls"][0] == "caller.1"
    assert written[1]["calls"][1].startswith("service.method.")
    assert sorted(line["time"] for line in written) == [line["time"] for line in written]


@pytest.mark.parametrize(("exc", "event"), [(None, "killed"), (ZeroDivisionError(), "killed by ZeroDivisionError")])
def test_a_kill_is_written_down(path: Path, exc: Exception | None, event: str) -> None:
    with run_service(Service, {"AUDIT_FILE": str(path)}, plugins=["audit-trail"]) as container:
        container.kill((type(exc), exc, None) if exc is not None else None)
    assert [line["event"] for line in lines(path)] == ["started", event]


def test_a_file_is_appended_to(path: Path) -> None:
    for _ in range(2):
        with run_service(Service, {"AUDIT_FILE": str(path)}, plugins=["audit-trail"]):
            pass
    assert [line["event"] for line in lines(path)] == ["started", "stopped"] * 2


def test_a_line_that_is_too_long_is_cut(path: Path) -> None:
    stack = ["x" * MAX_LINE_BYTES]
    with (
        run_service(Service, {"AUDIT_FILE": str(path)}, plugins=["audit-trail"]) as container,
        entrypoint_hook(container, "method", context_data={"call_id_stack": stack}) as method,
    ):
        method(1)
    assert lines(path)[1]["calls"] == "left out, too long"


def test_a_file_that_cannot_be_opened_refuses_the_start(tmp_path: Path) -> None:
    for path, reason in (tmp_path, "Is a directory"), (tmp_path / "no" / "file", "No such file or directory"):
        with (
            pytest.raises(ConfigurationError) as raised,
            run_service(Service, {"AUDIT_FILE": str(path)}, plugins=["audit-trail"]),
        ):
            pass
        assert str(raised.value) == f"AUDIT_FILE: {path} cannot be written: {reason}"


def test_a_disk_that_is_full_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    config = {"AUDIT_FILE": "/dev/full"}
    with (
        run_service(Service, config, plugins=["audit-trail"]) as container,
        entrypoint_hook(container, "method") as method,
    ):
        assert method(2) == 0.5
    assert "plugin audit-trail (nameko-audit-trail 1.0): observer 'nameko_worker_result' failed" in caplog.text
