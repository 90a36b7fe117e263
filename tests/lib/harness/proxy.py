"""A TCP proxy in front of a broker that breaks connections on command, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from nameko import concurrency

_PROGRAM = Path(__file__).with_name("proxy_server.py")
_ANSWER_TIMEOUT_S = 10


class Proxy:
    """Passes everything on until told otherwise. `name` is the role of the connections that a fault is for, `publish`
    or `consume`; None for all.

    :param host: of the target
    :param port: of the target
    """

    def __init__(self, host: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), host, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        #: Where it listens, on 127.0.0.1.
        self.port: int = self._receive()["port"]

    # -- faults

    def reset(self, name: str | None = None) -> int:
        """Break connections with an RST to both sides; how many there were."""
        before = self.count("reset")
        return int(self._command("reset", name=name).get("reset", 0)) - before

    def blackhole(self, up: bool = True, down: bool = True, name: str | None = None) -> None:
        """Pass nothing on, towards the broker (`up`) or from it (`down`), on connections of now and later.

        Nothing is lost for good: it is passed on after `heal()`, as a network does whose route comes back.
        """
        self._command("blackhole", up=up, down=down, name=name)

    def stall_before(self, data: bytes) -> None:
        """Pass nothing more on from the broker on the connection on which it says `data` next, until `heal()`."""
        self._command("stall_before", data=data.hex())

    def delay(self, up_s: float = 0, down_s: float = 0, name: str | None = None) -> None:
        """Pass each piece on so much later."""
        self._command("delay", up_s=up_s, down_s=down_s, name=name)

    def close_listener(self) -> None:
        """Refuse connections: nobody listens at the port. Those that exist go on."""
        self._command("close_listener")

    def reject(self) -> None:
        """Accept connections, and reset them at once."""
        self._command("reject")

    def inject(self, data: bytes, name: str | None = None) -> None:
        """Send clients something that the broker has not sent."""
        self._command("inject", data=data.hex(), name=name)

    def heal(self) -> None:
        """Let everybody in, and pass everything on."""
        self._command("listen")
        self._command("delay", up_s=0, down_s=0, name=None)
        self._command("blackhole", up=False, down=False, name=None)

    # -- what happened

    def count(self, name: str) -> int:
        """How many: `accepted`, `rejected`, `reset` or `injected` connections; bytes `held_up`, `held_down`,
        `delayed_up`, `delayed_down`, `passed_up`, `passed_down`. A test asserts with it that its fault has struck."""
        return int(self._command("status").get(name, 0))

    @property
    def open(self) -> list[str]:
        """The names of the connections there are; empty for a client that does not name its connections."""
        return list(self._command("status")["open"])

    def close(self) -> None:
        """End the process, and all connections with it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    # -- the process

    def _command(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, arguments]).encode() + b"\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with concurrency.cancel_after(_ANSWER_TIMEOUT_S, AssertionError("the fault proxy does not answer")):
            concurrency.wait_readable(self._process.stdout)
            line = self._process.stdout.readline()
        assert line, f"the fault proxy has ended with {self._process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer
