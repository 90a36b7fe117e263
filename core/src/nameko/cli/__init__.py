"""The command line: `nameko run`, `nameko shell` and so on, and the commands that plugins add.

Importing this imports click and little else; what a command needs is imported when it is invoked.
"""

from nameko.cli._group import cli
from nameko.cli._options import ConfiguredCommand

__all__ = ["ConfiguredCommand", "cli"]
