"""What plugins declare: configuration keys, command line options, extensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    """

    name: str
    type: str
    default: Any
    help: str
    secret: bool = False


@dataclass(frozen=True)
class ExtensionInfo:
    """An extension class that a plugin offers, with one line of help."""

    cls: type
    help: str


@dataclass(frozen=True)
class RunOption:
    """An option of `nameko run` and `nameko shell` that sets a configuration key.

    :param flag: as typed, `"--broker"`
    :param config_key: the key that it sets; a value is read as YAML, unless the key is declared as a `"str"`
    :param help: one sentence
    :param metavar: what stands for the value in the help text
    :param envvar: an environment variable that sets the key when the option is not given: a value on the command line
        can be seen by every user of the machine
    """

    flag: str
    config_key: str
    help: str
    metavar: str = "VALUE"
    envvar: str | None = None
