"""What plugins declare: configuration keys, command line options, extensions, numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_FLAG = re.compile(r"--[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*")
# Of Prometheus' data model: https://prometheus.io/docs/concepts/data_model/
_STAT_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


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


@dataclass(frozen=True)
class Stat:
    """A number about a container, as it is when it is asked for.

    :param name: in the manner of Prometheus, in the plugin's own name space and with its unit:
        `"acme_cache_size_bytes"`
    :param kind: `"counter"` for what only grows as long as the container lives, `"gauge"` for what comes and goes
    :param help: one sentence
    :param value: the number
    :param labels: what tells several numbers of that name apart; few different values, all of them known beforehand
    :raises TypeError: when one of them has another type
    :raises ValueError: when the name or a label is none for Prometheus
    """

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_strings(self, "name", "help")
        if not _STAT_NAME.fullmatch(self.name):
            raise ValueError(f"Stat: name must be a name in the manner of Prometheus, not {self.name!r}")
        if self.kind not in ("counter", "gauge"):
            raise ValueError(f"Stat {self.name}: kind must be `counter` or `gauge`, not {self.kind!r}")
        if not isinstance(self.value, (int, float)):
            raise TypeError(f"Stat {self.name}: value must be a number, not {self.value!r}")
        for label, value in self.labels.items():
            if not _LABEL_NAME.fullmatch(label) or not isinstance(value, str):
                raise ValueError(f"Stat {self.name}: labels are strings by names, not {label!r}: {value!r}")


def _check_strings(declaration: object, *names: str) -> None:
    # Here, where the plugin can be blamed for it: whoever reads the declaration later relies on it.
    for name in names:
        value = getattr(declaration, name)
        if not isinstance(value, str):
            raise TypeError(f"{type(declaration).__name__}: {name} must be a string, not {value!r}")
