from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nameko.config_yaml import expand, load_config, load_yaml
from nameko.exceptions import ConfigurationError


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}", {"A": "5"}, 5),
        ("${A}", {"A": "[1, two]"}, [1, "two"]),
        ("${A}", {"A": "{a: 1}"}, {"a": 1}),
        ("${A}", {}, None),
        ("${A}", {"A": ""}, None),
        ("${A:b}", {}, "b"),
        ("${A:b}", {"A": ""}, None),
        ("${A:5}", {}, 5),
        ("x${A:b}y${C}z", {"C": "c"}, "xbycz"),
        ("pyamqp://${U:guest}:${P:guest}@${H:localhost}/", {"P": "p:w"}, "pyamqp://guest:p:w@localhost/"),
        ("${A:${B:${C:deep}}}", {}, "deep"),
        ("${A:${B:c}}", {"B": "b"}, "b"),
        ("${A:x${B}y}", {"B": "b"}, "xby"),
        ("${A:{a:b}}", {"A": "x"}, "x"),
        ("'${A}'", {"A": "x"}, "${A}"),
        ('"${A}"', {"A": "x"}, "${A}"),
        ('!env_var "${A:[1,2]}"', {}, [1, 2]),
        ('!raw_env_var "${A:5}"', {}, "5"),
        ("!raw_env_var ${A}", {"A": "[1"}, "[1"),
        ("!env_var plain", {}, "plain"),
        ("!raw_env_var", {}, ""),
    ],
)
def test_values_from_the_environment(text: str, environ: dict[str, str], value: object) -> None:
    assert load_yaml(f"key: {text}", environ=environ) == {"key": value}


def test_keys_from_the_environment() -> None:
    assert load_yaml("${A}: 1", environ={"A": "name"}) == {"name": 1}


@pytest.mark.parametrize("text", ["${A}", "!env_var '${A}'", "!raw_env_var '${A}'", "${X:${A}}"])
def test_a_value_from_the_environment_is_not_looked_into(text: str) -> None:
    assert load_yaml(f"key: {text}", environ={"A": "${B}", "B": "b"}) == {"key": "${B}"}


def test_defaults_nest_ten_deep_and_no_more() -> None:
    ten = "${A:" * 10 + "x" + "}" * 10
    assert expand(ten, {}) == "x"
    with pytest.raises(ConfigurationError, match="10 deep"):
        expand(f"${{A:{ten}}}", {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "f.yaml, line 3, column 1: key 'a' stands twice, first on line 1"),
        ("x: {a: 1, a: 2}", "f.yaml, line 1, column 11: key 'a' stands twice, first on line 1"),
        ("a: [1", r"f.yaml, line 1, column 6: expected"),
        ("a: ${B", r"f.yaml, line 1, column 4: `\$\{B` has no closing brace"),
        ("a: ${:b}", r"f.yaml, line 1, column 4: `\$\{:b\}` names no environment variable"),
        ("a: !!python/object/apply:os.getcwd []", "f.yaml, line 1, column 4: could not determine a constructor"),
        ("a: !env_var [1]", "f.yaml, line 1, column 4: expected a scalar node"),
        ("a: 2026-02-31", "f.yaml: ValueError: day"),
        ("a: \x01", "f.yaml: character #x0001 is not allowed"),
        ("[" * 2000, "f.yaml: RecursionError"),
        ("? [a]\n: 1", "f.yaml, line 1, column 3: found unhashable key"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_yaml(text, "f.yaml", {})


def test_a_value_that_is_not_yaml_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_yaml("a: ${PASSWORD}", "f.yaml", {"PASSWORD": "`canary"})
    assert "${PASSWORD}" in str(caught.value)
    assert "!raw_env_var" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_merge_keys_are_not_taken_for_duplicates() -> None:
    text = "base: &base {a: 1, b: 2}\nderived:\n  <<: *base\n  a: 3"
    assert load_yaml(text)["derived"] == {"a": 3, "b": 2}


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMEKO_TEST_VALUE", "7")
    path = tmp_path / "config.yaml"
    path.write_text("max_workers: ${NAMEKO_TEST_VALUE}\nname: größe", "utf-8")
    assert load_config(path) == {"max_workers": 7, "name": "größe"}
    path.write_text("# nothing\n")
    assert load_config(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1", "a mapping of keys to values is expected, not list"),
        (b"5: a", "key 5 is not a string: put it in quotes"),
        (b"\xff\xfe\x00", "cannot be read: 'utf-8' codec"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_importing_leaves_other_users_of_yaml_alone() -> None:
    # In a process of its own, since what it may change is process-wide.
    program = """
import os, yaml
import nameko.config_yaml
os.environ["A"] = "5"
assert yaml.safe_load("a: ${A}") == {"a": "${A}"}
from nameko.cli.main import setup_yaml_parser
setup_yaml_parser()
assert yaml.safe_load("a: ${A}") == {"a": 5}
assert yaml.safe_load("a: !raw_env_var '${A}'") == {"a": "5"}
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_variable_that_is_not_set_and_has_no_default_is_named(caplog: pytest.LogCaptureFixture) -> None:
    assert load_yaml("amqp://${UNSET}@${HOST:localhost}", "config.yaml", {}) == "amqp://@localhost"
    assert [record.getMessage() for record in caplog.records] == [
        "UNSET is not set in the environment and has no default: nothing is put in its place"
    ]
