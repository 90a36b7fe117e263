from __future__ import annotations

from typing import Any

import yaml


def test_the_configuration_in_effect(project: Any, here: Any) -> None:
    project.write("other.yaml", "max_workers: ${N:4}\nnested: {list: [1, two]}\n")
    done = here("show-config", "-c", "other.yaml", "-d", "own=[a, b]", "--define", "max_workers=5")
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout) == {"max_workers": 5, "nested": {"list": [1, "two"]}, "own": ["a", "b"]}


def test_config_yaml_is_read_when_it_is_there(project: Any, here: Any) -> None:
    assert here("show-config").stdout == "{}\n"
    project.write("config.yaml", "max_workers: 4\n")
    assert here("show-config").stdout == "max_workers: 4\n"


def test_secrets_are_hidden_unless_asked_for(project: Any, here: Any) -> None:
    content = """
        AMQP_URI: pyamqp://user:canary@host/vhost
        API_TOKEN: canary
        nested: {password: canary, uris: ["redis://:canary@host"]}
        SIGNING: canary
    """
    project.write("config.yaml", content)
    project.write(
        "local.py",
        """
        from nameko.plugins import ConfigKey, hookimpl

        @hookimpl
        def nameko_config_keys():
            return [ConfigKey("SIGNING", "str", None, "What to sign with.", secret=True)]
        """,
    )
    hidden = here("show-config", "-p", "local")
    assert hidden.returncode == 0
    assert "canary" not in hidden.stdout + hidden.stderr
    assert "pyamqp://user:********@host/vhost" in hidden.stdout
    revealed = here("show-config", "-p", "local", "--reveal")
    assert revealed.stdout.count("canary") == 5


def test_a_value_of_the_wrong_type(here: Any) -> None:
    done = here("show-config", "-d", "max_workers=[canary]")
    assert done.returncode == 1
    assert "configuration key 'max_workers' must be of type int, not list" in done.stderr
    assert "canary" not in done.stderr


def test_defaults_are_comments_from_which_a_file_can_be_made(project: Any, here: Any) -> None:
    done = here("show-config", "--defaults", "-d", "max_workers=3")
    assert done.returncode == 0
    assert yaml.safe_load(done.stdout) == {"max_workers": 3}
    lines = done.stdout.splitlines()
    assert "# How many ids of the calls that led to a worker it knows, besides its own. (int)" in lines
    assert "# parent_calls_tracked: 10" in lines
    assert not any(line.startswith("# max_workers:") for line in lines)

    bare = here("show-config", "--defaults").stdout
    project.write("config.yaml", "\n".join(line.removeprefix("# ") for line in bare.splitlines()[1::2]))
    assert here("show-config").returncode == 0
