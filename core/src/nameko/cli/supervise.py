"""`nameko run --workers N` and `nameko run --reload`: the process that looks after those that host the services."""

from __future__ import annotations

from collections.abc import Sequence

from nameko.cli._source_watch import SourceWatch
from nameko.cli._supervisor import Supervisor, own_command_line
from nameko.config import config
from nameko.constants import DEFAULT_SHUTDOWN_TIMEOUT_S, SHUTDOWN_TIMEOUT_CONFIG_KEY


def main(workers: int, reload: bool, reload_dirs: Sequence[str]) -> int:
    """Run this very command line in `workers` processes.

    :param reload: start them anew when a source file changes
    :param reload_dirs: below these directories; the current one when there are none
    :returns: the exit status
    :raises CommandError: when files cannot be watched
    """
    stop_timeout_s = config.get(SHUTDOWN_TIMEOUT_CONFIG_KEY, DEFAULT_SHUTDOWN_TIMEOUT_S)
    if not reload:
        return Supervisor(own_command_line(), workers, stop_timeout_s).run()
    # Bytecode is told from that of a changed source by seconds and size, which a quick change may share.
    command = own_command_line("-B")
    with SourceWatch(reload_dirs or ["."]) as watch:
        return Supervisor(command, workers, stop_timeout_s, watch).run()
