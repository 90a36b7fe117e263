"""Configuration files: YAML with values from the environment.

::

    AMQP_URI: pyamqp://${USER:guest}:${PASSWORD:guest}@${HOST:localhost}   # a plain scalar: read again as YAML
    max_workers: ${WORKERS:10}                                             # an int
    greeting: !env_var "hello ${NAME}"                                     # in quotes only when asked
    token: !raw_env_var "${TOKEN}"                                         # a string, whatever it looks like

`${VAR}` that is not set is empty, which YAML reads as null. A default may contain references; a value from the
environment is never looked into. Only the tags of YAML's safe subset are known: a file cannot make Python objects.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from typing import IO, Any

import yaml

from nameko.exceptions import ConfigurationError

_log = getLogger(__name__)

# How deep defaults may stand in one another: `${A:${B:c}}` is two deep.
_MAX_NESTING = 10

_REFERENCE = re.compile(r".*\$\{", re.DOTALL)
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*\Z")


def load_config(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The configuration in a YAML file.

    :param environ: where `${VAR}` is looked up; the process's environment by default
    :raises ConfigurationError: when the file cannot be read, is not YAML, has a key twice, or is not a mapping of
        strings to values. The message names file and line.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise ConfigurationError(f"configuration file {str(path)!r} cannot be read: {reason}") from exc
    config = load_yaml(text, str(path), environ)
    if config is None:
        return {}
    if not isinstance(config, dict):
        raise ConfigurationError(f"{path}: a mapping of keys to values is expected, not {type(config).__name__}")
    for key in config:
        if not isinstance(key, str):
            raise ConfigurationError(f"{path}: key {key!r} is not a string: put it in quotes")
    return config


def load_yaml(text: str, source: str = "configuration", environ: Mapping[str, str] | None = None) -> Any:
    """The value of the YAML document `text`.

    :param source: what to call the text in error messages
    :param environ: where `${VAR}` is looked up; the process's environment by default
    :raises ConfigurationError: when it is not YAML, or has a key twice
    """
    try:
        loader = ConfigLoader(text, source, os.environ if environ is None else environ)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as exc:
        raise ConfigurationError(f"{source}: character #x{exc.character:04x} is not allowed in YAML") from exc
    except yaml.MarkedYAMLError as exc:
        raise ConfigurationError(f"{_place(source, exc.problem_mark)}: {exc.problem}") from exc
    except (RecursionError, ValueError) as exc:  # too deep; or a scalar such as the date 2026-02-31
        raise ConfigurationError(f"{source}: {type(exc).__name__}: {exc}") from exc


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with each `${VAR}` and `${VAR:default}` replaced.

    :raises ConfigurationError: when a reference is not closed, names no variable, or defaults nest more than 10 deep
    """
    return _expand(text, environ, _MAX_NESTING)


def _expand(text: str, environ: Mapping[str, str], nesting_left: int) -> str:
    parts: list[str] = []
    position = 0
    while (start := text.find("${", position)) >= 0:
        if nesting_left == 0:
            raise ConfigurationError(f"defaults of `${{VAR:default}}` may nest {_MAX_NESTING} deep, not more")
        end = _closing_brace(text, start + 2)
        name, colon, default = text[start + 2 : end].partition(":")
        if not _VARIABLE_NAME.match(name):
            raise ConfigurationError(f"`{text[start : end + 1]}` names no environment variable")
        value = environ.get(name)
        if value is None and not colon:
            _log.warning("%s is not set in the environment and has no default: nothing is put in its place", name)
        parts += text[position:start], _expand(default, environ, nesting_left - 1) if value is None else value
        position = end + 1
    return "".join([*parts, text[position:]])


def _closing_brace(text: str, start: int) -> int:
    # Braces in a default are balanced: `${LIMITS:{a: 1}}`.
    depth = 1
    for index in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise ConfigurationError(f"`{text[start - 2 :]}` has no closing brace")


def _place(source: str, mark: yaml.Mark | None) -> str:
    return source if mark is None else f"{source}, line {mark.line + 1}, column {mark.column + 1}"


class _StrictLoader(yaml.SafeLoader):
    """YAML's safe subset, where a key stands only once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_lines: dict[Any, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            if key in first_lines:
                problem = f"key {key_node.value!r} stands twice, first on line {first_lines[key] + 1}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            first_lines[key] = key_node.start_mark.line
        return super().construct_mapping(node, deep)


class ConfigLoader(_StrictLoader):
    """A YAML loader that fills in environment variables.

    :param stream: the document
    :param source: its name, for error messages
    :param environ: where variables are looked up
    """

    def __init__(self, stream: str | IO[str], source: str, environ: Mapping[str, str]) -> None:
        super().__init__(stream)
        self.name = source
        self.environ = environ


def add_env_var_support(loader_cls: type[yaml.SafeLoader]) -> None:
    """Teach a YAML loader class `${VAR}` in plain scalars, `!env_var` and `!raw_env_var`."""
    loader_cls.add_implicit_resolver("!env_var", _REFERENCE, None)
    loader_cls.add_constructor("!env_var", _construct_env_var)
    loader_cls.add_constructor("!raw_env_var", _construct_raw_env_var)


def _construct_raw_env_var(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = loader.construct_scalar(node)
    try:
        return expand(str(text), getattr(loader, "environ", os.environ))
    except ConfigurationError as exc:
        raise yaml.constructor.ConstructorError(None, None, str(exc), node.start_mark) from None


def _construct_env_var(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
    filled_in = _construct_raw_env_var(loader, node)
    try:
        return yaml.load(filled_in, _StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        # What is wrong with it may be a secret: the message shows the reference, not the value.
        problem = f"`{node.value}`, filled in from the environment, is not YAML: with !raw_env_var it stays a string"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None


add_env_var_support(ConfigLoader)
