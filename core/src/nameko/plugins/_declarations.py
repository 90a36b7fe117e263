"""What plugins declare: configuration keys, command line options, extensions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_FLAG = re.compile(r"--[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*")


@dataclass(frozen=True)
class ConfigKey:
    """A configuration key that a plugin reads.

    :param name: the key, as it stands in the configuration file
    :param type: what it holds: `"str"`, `"int"`, `"float"`, `"seconds"`, `"bytes"` (a number of them), `"bool"`,
        `"mapping"`, `"list"`, `"list of str"` and so on, or several of them, as in `"bool or mapping"`. A value of
        another type is refused at start; None always means that the key is not set. Any other word, as in
        `"dotted path"`, is for readers only.
    :param default: what applies when it is not set
    :param help: one sentence
    :param secret: whether the value must never be shown
    :raises TypeError: when name, type or help is no string
    """

    name: str
    type: str
    default: Any
    help: str
    secret: bool = False

    def __post_init__(self) -> None:
        _check_strings(self, "name", "type", "help")


@dataclass(frozen=True)
class ExtensionInfo:
    """An extension class that a plugin offers, with one line of help.

    :raises TypeError: when it is no class, or the help no string
    """

    cls: type
    help: str

    def __post_init__(self) -> None:
        if not isinstance(self.cls, type):
            raise TypeError(f"ExtensionInfo: cls must be a class, not {self.cls!r}")
        _check_strings(self, "help")


@dataclass(frozen=True)
class RunOption:
    """An option of `nameko run` and `nameko shell` that sets a configuration key.

    :param flag: as typed, `"--broker"`
    :param config_key: the key that it sets; a value is read as YAML, unless the key is declared as a `"str"`
    :param help: one sentence
    :param metavar: what stands for the value in the help text
    :param envvar: an environment variable that sets the key when the option is not given: a value on the command line
        can be seen by every user of the machine
    :raises TypeError: when one of them is no string
    :raises ValueError: when the flag does not look like `--some-name`
    """

    flag: str
    config_key: str
    help: str
    metavar: str = "VALUE"
    envvar: str | None = None

    def __post_init__(self) -> None:
        _check_strings(self, "flag", "config_key", "help", "metavar")
        if not _FLAG.fullmatch(self.flag):
            raise ValueError(f"RunOption: flag must look like `--some-name`, not {self.flag!r}")
        if self.envvar is not None:
            _check_strings(self, "envvar")


def _check_strings(declaration: object, *names: str) -> None:
    # Here, where the plugin can be blamed for it: whoever reads the declaration later relies on it.
    for name in names:
        value = getattr(declaration, name)
        if not isinstance(value, str):
            raise TypeError(f"{type(declaration).__name__}: {name} must be a string, not {value!r}")
