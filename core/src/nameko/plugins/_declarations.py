"""What plugins declare: configuration keys, command line options, extensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ConfigKey:
    """A configuration key that a plugin reads.

    :param name: the key, as it stands in the configuration file
    :param type: what it holds, in words for the reference: `"str"`, `"int"`, `"seconds"`, `"list of str"`, ...
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
    :param config_key: the key that it sets
    :param help: one sentence
    :param metavar: what stands for the value in the help text
    """

    flag: str
    config_key: str
    help: str
    metavar: str = "VALUE"
