"""Finding and loading plugins: distributions that are written into a directory of the Python path."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nameko.exceptions import ConfigurationError, PluginError
from nameko.plugins import PluginManager, Selection, Status, find_plugins, plugins_for
from nameko.testing.plugins import write_distribution

Install = Callable[..., None]

BUILT_IN = {"amqp", "events", "http", "rpc", "timer"}
OURS = {*BUILT_IN, "health", "metrics", "tracing"}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """`install(distribution, entry_points, version=..., requires=..., **modules)` makes an installed distribution."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(
        distribution: str,
        entry_points: dict[str, str],
        version: str = "1.2",
        requires: tuple[str, ...] = (),
        **modules: str,
    ) -> None:
        write_distribution(tmp_path, distribution, entry_points, version=version, requires=requires, modules=modules)

    yield install
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


READY = """
    from nameko.plugins import hookimpl

    @hookimpl
    def nameko_ready(container):
        return ["not yet"]
"""


def statuses(manager: PluginManager) -> dict[str, Status]:
    return {info.name: info.status for info in manager.plugins if info.name not in OURS}


def problems(manager: PluginManager) -> dict[str, str]:
    return {info.name: info.problem for info in manager.plugins if info.name not in OURS}


def test_an_installed_plugin_takes_part(install: Install) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=READY)
    manager = plugins_for({})
    (info,) = [info for info in manager.loaded if info.name == "audit"]
    assert (info.distribution, info.version, info.target) == ("acme-audit", "1.2", "acme_audit")
    assert manager.hooks_of("audit") == ["nameko_ready"]
    assert "audit (acme-audit 1.2)" in manager.describe_loaded()


def test_our_own_take_the_same_path() -> None:
    assert {info.name for info in plugins_for({}).loaded} >= BUILT_IN


def test_an_object_of_a_module_can_be_a_plugin(install: Install) -> None:
    source = """
        from nameko.plugins import hookimpl

        class Audit:
            @hookimpl
            def nameko_ready(self, container):
                return ["from an object"]

        audit = Audit()
    """
    install("acme-audit", {"audit": "acme_audit:audit"}, acme_audit=source)
    manager = plugins_for({"plugins": {"only": ["audit"]}})
    assert manager.not_ready_reasons(None) == ["from an object"]  # type: ignore[arg-type]


def test_finding_imports_nothing(install: Install) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit="raise ZeroDivisionError")
    found = {info.name: info.status for info in find_plugins(Selection())}
    assert found["audit"] is Status.ENABLED
    assert "acme_audit" not in sys.modules


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\n1 / 0", "ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError: invalid syntax"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_one_that_cannot_be_imported_hinders_no_other(install: Install, source: str, cause: str) -> None:
    install("acme-good", {"good": "acme_good"}, acme_good=READY)
    install("acme-bad", {"bad": "acme_bad"}, version="0.9", acme_bad=source)
    manager = PluginManager.load(Selection())
    assert statuses(manager) == {"good": Status.LOADED, "bad": Status.NOT_IMPORTABLE}
    with pytest.raises(PluginError) as caught:
        manager.check()
    message = str(caught.value)
    assert message.startswith(f"plugin 'bad' (acme-bad 0.9): cannot be imported: {cause} (")
    assert f"acme_bad.py, line {len(source.splitlines())})" in message
    assert "block it with `-p no:bad` or NAMEKO_DISABLE_PLUGINS=bad" in message
    assert "\n" not in message


def test_a_missing_object_in_the_module(install: Install) -> None:
    install("acme-bad", {"bad": "acme_bad:plugin"}, acme_bad="")
    with pytest.raises(PluginError, match=r"'bad' .*: cannot be imported: AttributeError: .*'plugin'"):
        plugins_for({})


def test_several_broken_ones_are_counted(install: Install) -> None:
    install("acme-bad", {"bad": "nowhere_a", "worse": "nowhere_b"})
    with pytest.raises(PluginError, match=r"plugin 'bad'.* \(1 more: see `nameko plugins --verbose`\)"):
        plugins_for({})


def test_the_same_name_twice(install: Install) -> None:
    install("acme-meters", {"meters": "acme_meters"}, acme_meters=READY)
    install("other-meters", {"meters": "other_meters"}, version="2.0", other_meters=READY)
    manager = PluginManager.load(Selection())
    assert [info.status for info in manager.plugins if info.name == "meters"] == [Status.DUPLICATE] * 2
    with pytest.raises(PluginError) as caught:
        manager.check()
    assert "the name is taken by several: acme-meters 1.2, other-meters 2.0" in str(caught.value)
    assert "-p no:acme-meters" in str(caught.value)

    chosen = plugins_for({"plugins": {"disable": ["acme-meters"]}})
    assert [info.distribution for info in chosen.loaded if info.name == "meters"] == ["other-meters"]


def test_two_names_for_one_object(install: Install) -> None:
    install("acme-audit", {"one": "acme_audit", "two": "acme_audit"}, acme_audit=READY)
    with pytest.raises(PluginError, match="it is the same object as plugin"):
        plugins_for({})


@pytest.mark.parametrize(
    ("requirement", "conflict"),
    [
        ("nameko-core>=4", "requires nameko-core>=4, but nameko-core 3.0.0 is installed"),
        ("Nameko_Core (<3)", "requires Nameko_Core<3, but Nameko_Core 3.0.0 is installed"),
        ("nameko-rpc==2.*", "requires nameko-rpc==2.*, but nameko-rpc 3.0.0 is installed"),
        ("nameko-core~=3.0", ""),
        ("nameko-core[all]>=3.0.0", ""),
        ("nameko-core>=4; python_version < '3'", ""),
        ("nameko-core>=4; extra == 'future'", ""),
        ("nameko-no-such-thing>=4", ""),
        ("namekology>=4", ""),
        ("pluggy>=999", ""),
    ],
)
def test_version_conflicts_show_before_import(install: Install, requirement: str, conflict: str) -> None:
    install("acme-audit", {"audit": "acme_audit"}, requires=("pluggy", requirement), acme_audit=READY)
    manager = PluginManager.load(Selection())
    assert problems(manager) == {"audit": conflict}
    assert ("acme_audit" in sys.modules) is (conflict == "")
    if conflict:
        assert statuses(manager) == {"audit": Status.VERSION_CONFLICT}
        with pytest.raises(PluginError, match=r"plugin 'audit'.*requires"):
            manager.check()


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (
            "@hookimpl\ndef nameko_worker_startd(worker_ctx): ...",
            Status.UNKNOWN_HOOK,
            "there is no hook `nameko_worker_startd` (did you mean 'nameko_worker_started'?)",
        ),
        (
            "@hookimpl(specname='nameko_nothing_like_it')\ndef f(): ...",
            Status.UNKNOWN_HOOK,
            "there is no hook `nameko_nothing_like_it`",
        ),
        (
            "@hookimpl\ndef nameko_ready(container, config): ...",
            Status.INVALID_HOOK,
            "`nameko_ready` takes the argument `config`; those of the hook `nameko_ready` are: container",
        ),
        (
            "@hookimpl(specname='nameko_worker_result')\ndef f(exc_inf): ...",
            Status.INVALID_HOOK,
            "`f` takes the argument `exc_inf` (did you mean 'exc_info'?); "
            "those of the hook `nameko_worker_result` are: worker_ctx, result, exc_info",
        ),
        (
            "@hookimpl\ndef nameko_extensions(x): ...",
            Status.INVALID_HOOK,
            "`nameko_extensions` takes the argument `x`; those of the hook `nameko_extensions` are: none",
        ),
        (
            "@hookimpl(wrapper=True)\ndef nameko_ready(container): yield",
            Status.INVALID_HOOK,
            "`nameko_ready` is a wrapper",
        ),
        (
            "@hookimpl(hookwrapper=True)\ndef nameko_ready(container): yield",
            Status.INVALID_HOOK,
            "`nameko_ready` is a wrapper",
        ),
        (
            "def nameko_ready(container): ...",
            Status.INVALID_HOOK,
            "`nameko_ready` is not marked with @nameko.plugins.hookimpl",
        ),
    ],
)
def test_hooks_that_break_the_rules(install: Install, body: str, status: Status, problem: str) -> None:
    install("acme-good", {"good": "acme_good"}, acme_good=READY)
    install("acme-bad", {"bad": "acme_bad"}, acme_bad=f"from nameko.plugins import hookimpl\n\n{body}\n")
    manager = PluginManager.load(Selection())
    assert statuses(manager) == {"good": Status.LOADED, "bad": status}
    assert problem in problems(manager)["bad"]
    assert [info.name for info, _ in manager.observers("nameko_ready") if info.name not in OURS] == ["good"]
    with pytest.raises(PluginError, match="plugin 'bad'"):
        manager.check()


def test_a_module_without_hooks_is_pointed_out(caplog: pytest.LogCaptureFixture) -> None:
    plugins_for({"plugins": {"load": ["os"]}})
    (warning,) = [record.getMessage() for record in caplog.records]
    assert warning == ("plugin os (module os) has no hooks, so it does nothing: is that the module that was meant?")


def test_an_optional_unknown_hook_is_allowed(install: Install) -> None:
    body = "from nameko.plugins import hookimpl\n\n@hookimpl(optionalhook=True)\ndef nameko_of_the_future(x): ...\n"
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=body)
    assert statuses(plugins_for({})) == {"audit": Status.LOADED}


@pytest.mark.parametrize(
    ("config", "environ", "loaded"),
    [
        ({}, "", {"audit", "meters"}),
        ({"plugins": None}, "", {"audit", "meters"}),
        ({"plugins": {"disable": ["audit"]}}, "", {"meters"}),
        ({"plugins": {"disable": ["acme-audit"]}}, "", {"meters"}),
        ({}, "audit", {"meters"}),
        ({}, "audit, meters", set()),
        ({"plugins": {"disable": ["audit"]}}, "meters", set()),
        ({"plugins": {"only": ["audit"]}}, "", {"audit"}),
        ({"plugins": {"only": ["acme-meters"]}}, "", {"meters"}),
        ({"plugins": {"only": ["audit"]}}, "audit", set()),
        ({"plugins": {"only": []}}, "", set()),
        ({"plugins": {"require": ["audit", "acme-meters"]}}, "", {"audit", "meters"}),
    ],
)
def test_selection(
    install: Install, monkeypatch: pytest.MonkeyPatch, config: dict[str, object], environ: str, loaded: set[str]
) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=READY)
    install("acme-meters", {"meters": "acme_meters"}, acme_meters=READY)
    monkeypatch.setenv("NAMEKO_DISABLE_PLUGINS", environ)
    assert {info.name for info in plugins_for(config).loaded} - OURS == loaded


def test_a_broken_plugin_that_is_blocked_stops_nothing(install: Install) -> None:
    install("acme-bad", {"bad": "acme_bad"}, acme_bad="1 / 0")
    assert statuses(plugins_for({"plugins": {"disable": ["bad"]}})) == {"bad": Status.BLOCKED}


def test_a_name_to_disable_that_nothing_has_is_pointed_out(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit="")
    plugins_for({"plugins": {"disable": ["audti"]}})
    assert "no plugin 'audti' is installed" in caplog.text
    assert "did you mean 'audit'?" in caplog.text


def test_an_allow_list_that_is_empty_means_none() -> None:
    assert plugins_for({"plugins": {"only": []}}).loaded == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"require": ["audti"]}, r"plugin 'audti' is required .* not installed \(did you mean 'audit'\?\)"),
        ({"require": ["audit"], "disable": ["audit"]}, "plugin 'audit' is required .* but it is blocked: disabled"),
        ({"require": ["audit"], "only": ["rpc"]}, "plugin 'audit' is required .* blocked: not in `plugins: only`"),
    ],
)
def test_requirements_fail_early(install: Install, settings: dict[str, list[str]], message: str) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=READY)
    with pytest.raises(PluginError, match=message):
        plugins_for({"plugins": settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rpc"], "configuration key 'plugins' must be a mapping"),
        ({"disabled": ["rpc"]}, "`plugins: disabled` is none of disable, only, require, load"),
        ({"disable": "rpc"}, "`plugins: disable` must be a list of names, not 'rpc'"),
        ({"only": [5]}, "`plugins: only` must be a list of names"),
    ],
)
def test_a_malformed_selection(settings: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plugins_for({"plugins": settings})


def test_a_local_module(install: Install) -> None:
    install("acme-unrelated", {}, local_plugin=READY)
    manager = plugins_for({"plugins": {"load": ["local_plugin"], "only": []}})
    assert [(info.name, info.distribution, info.origin) for info in manager.loaded] == [
        ("local_plugin", None, "module local_plugin")
    ]


def test_a_local_module_that_is_missing() -> None:
    # In a process in which what describes failures is imported before the import system for distributions.
    program = """if True:
        import nameko.import_failures
        from nameko.exceptions import PluginError
        from nameko.plugins import plugins_for

        try:
            plugins_for({"plugins": {"load": ["no_such_plugin"]}})
        except PluginError as exc:
            print(exc)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == (
        "plugin 'no_such_plugin' (module no_such_plugin): cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_plugin'; leave it out of `-p` and `plugins: load`\n"
    )


def test_each_selection_is_loaded_once(install: Install) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=READY)
    config = {"plugins": {"disable": ["timer"]}}
    assert plugins_for(config) is plugins_for(dict(config))
    assert plugins_for(config) is not plugins_for({})


def test_a_failure_is_not_kept(install: Install, tmp_path: Path) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit="1 / 0")
    with pytest.raises(PluginError):
        plugins_for({})
    (tmp_path / "acme_audit.py").write_text(textwrap.dedent(READY) + "# mended, and longer than before\n")
    assert statuses(plugins_for({})) == {"audit": Status.LOADED}


def test_with_plugins_has_no_others() -> None:
    manager = PluginManager.with_plugins({})
    assert manager.loaded == []
    assert manager.observers("nameko_ready") == ()


def test_with_plugins_checks() -> None:
    class Forgotten:
        def nameko_ready(self) -> list[str]:
            return []

    with pytest.raises(PluginError, match=r"plugin 'mine' \(module Forgotten\): `nameko_ready` is not marked"):
        PluginManager.with_plugins({"mine": Forgotten()})


def test_loading_says_nothing_when_all_is_well(install: Install, caplog: pytest.LogCaptureFixture) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=READY)
    with caplog.at_level(logging.INFO):
        plugins_for({})
    assert caplog.records == []


def test_an_object_that_cannot_be_looked_at(install: Install) -> None:
    source = """
        class Odd:
            def __dir__(self):
                raise ZeroDivisionError("odd")

        plugin = Odd()
    """
    install("acme-good", {"good": "acme_good"}, acme_good=READY)
    install("acme-odd", {"odd": "acme_odd:plugin"}, acme_odd=source)
    manager = PluginManager.load(Selection())
    assert statuses(manager) == {"good": Status.LOADED, "odd": Status.INVALID_HOOK}
    assert problems(manager)["odd"] == "its attributes cannot be read: ZeroDivisionError: odd"


def test_a_timeout_in_an_import_is_the_modules(install: Install) -> None:
    source = """
        from nameko.concurrency import Timeout, sleep

        Timeout(0.01)
        sleep(10)
    """
    install("acme-slow", {"slow": "acme_slow"}, acme_slow=source)
    assert statuses(PluginManager.load(Selection())) == {"slow": Status.NOT_IMPORTABLE}


@pytest.mark.parametrize("metadata", [None, "", "Metadata-Version: 2.1\n"])
def test_metadata_that_is_damaged(install: Install, tmp_path: Path, metadata: str | None) -> None:
    install("acme-audit", {"audit": "acme_audit"}, acme_audit=READY)
    path = tmp_path / "acme_audit-1.2.dist-info/METADATA"
    path.unlink() if metadata is None else path.write_text(metadata)
    (info,) = [info for info in plugins_for({}).loaded if info.name == "audit"]
    assert info.origin == "acme_audit 1.2"
