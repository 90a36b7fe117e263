"""The program behind `harness.proxy`: a TCP proxy that breaks connections on command.

It runs in a process of its own, on asyncio, so that whatever is wrong with the process under test, or with its
greenthreads, does not touch it. Commands are lines of JSON on standard input, `[name, arguments]`; each is answered by
a line on standard output: the counters.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import sys
from collections import Counter
from typing import Any

_READ_BYTES = 65536
# What clients call their connections, in the properties that they send first.
_NAME = re.compile(rb"nameko (\w+) \(pid")


class Gate:
    """What one direction of a link has to pass: open, shut or slow."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self.delay_s = 0.0

    @property
    def shut(self) -> bool:
        return not self._open.is_set()

    def set(self, shut: bool) -> None:
        """Shut or open it; what waits meanwhile is not lost."""
        (self._open.clear if shut else self._open.set)()

    async def passed(self) -> None:
        """Wait until it may be passed."""
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._open.wait()


class Link:
    """A connection of a client, and ours to the target."""

    def __init__(self, client: asyncio.StreamWriter, target: asyncio.StreamWriter) -> None:
        self.ends = {"up": target, "down": client}
        self.gates = {"up": Gate(), "down": Gate()}
        self.name = ""

    def recognize(self, data: bytes) -> None:
        """Find out what it is called."""
        match = _NAME.search(data)
        if match is not None:
            self.name = match[1].decode()

    def reset(self) -> None:
        """End it with an RST to both sides."""
        for writer in self.ends.values():
            _set_lingering_off(writer)
            writer.transport.abort()
        for gate in self.gates.values():
            gate.set(shut=False)  # for the end to get through

    def inject(self, data: bytes) -> None:
        """Send the client something that the target has not sent."""
        self.ends["down"].write(data)

    def close(self) -> None:
        for writer in self.ends.values():
            writer.close()


class ProxyServer:
    """Accepts connections and passes on what comes, as far as it is told to."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._links: list[Link] = []
        self._listener: asyncio.Server | None = None
        self._port = 0
        self._rejecting = False
        self._faults: dict[str, dict[str, Any]] = {"blackhole": {}, "delay": {}}  # for links to come
        self._stall_before = b""
        self._counters: Counter[str] = Counter()

    async def start(self) -> None:
        await self.listen()

    @property
    def state(self) -> dict[str, Any]:
        """The counters, and what is there now."""
        return {**self._counters, "port": self._port, "open": [link.name for link in self._links]}

    # -- commands

    async def listen(self) -> None:
        """Let connections in, always at the same port."""
        self._rejecting = False
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=100)
            self._port = self._listener.sockets[0].getsockname()[1]

    async def close_listener(self) -> None:
        """Nobody listens at the port."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()

    async def reject(self) -> None:
        """Accept connections and reset them at once."""
        await self.listen()
        self._rejecting = True

    async def reset(self, name: str | None) -> None:
        for link in self._named(name):
            self._counters["reset"] += 1
            self._links.remove(link)
            link.reset()

    async def blackhole(self, up: bool, down: bool, name: str | None) -> None:
        """Hold back what comes, in either direction."""
        self._faults["blackhole"] = {"name": name, "up": up, "down": down}
        for link in self._links:
            self._apply_faults(link)

    async def stall_before(self, data: str) -> None:
        """Hold back the next piece from the target that has `data` in it, with all that follows on that connection."""
        self._stall_before = bytes.fromhex(data)

    async def delay(self, up_s: float, down_s: float, name: str | None) -> None:
        """Pass each piece on so much later."""
        self._faults["delay"] = {"name": name, "up": up_s, "down": down_s}
        for link in self._links:
            self._apply_faults(link)

    async def inject(self, data: str, name: str | None) -> None:
        for link in self._named(name):
            self._counters["injected"] += 1
            link.inject(bytes.fromhex(data))

    async def status(self) -> None:
        """Only ask for the counters."""

    def _named(self, name: str | None) -> list[Link]:
        return [link for link in self._links if name in (None, link.name)]

    def _apply_faults(self, link: Link) -> None:
        blackhole, delay = self._faults["blackhole"], self._faults["delay"]
        for direction, gate in link.gates.items():
            gate.set(shut=blackhole.get("name") in (None, link.name) and blackhole.get(direction, False))
            gate.delay_s = delay.get(direction, 0) if delay.get("name") in (None, link.name) else 0

    # -- traffic

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._rejecting:
            self._counters["rejected"] += 1
            _set_lingering_off(writer)
            writer.transport.abort()
            return
        self._counters["accepted"] += 1
        try:
            target_reader, target_writer = await asyncio.open_connection(*self._target)
        except OSError:
            self._counters["unreachable"] += 1
            _set_lingering_off(writer)
            writer.transport.abort()
            return
        link = Link(writer, target_writer)
        self._links.append(link)
        self._apply_faults(link)
        pumps = (self._pump(link, "up", reader), self._pump(link, "down", target_reader))
        try:
            await asyncio.gather(*(asyncio.ensure_future(pump) for pump in pumps))
        finally:
            if link in self._links:
                self._links.remove(link)
            link.close()

    async def _pump(self, link: Link, direction: str, reader: asyncio.StreamReader) -> None:
        gate, writer = link.gates[direction], link.ends[direction]
        try:
            while True:
                data = await reader.read(_READ_BYTES)
                if direction == "up" and not link.name:
                    link.recognize(data)
                    self._apply_faults(link)
                if direction == "down" and self._stall_before and self._stall_before in data:
                    self._stall_before = b""
                    gate.set(shut=True)
                if gate.shut:
                    self._counters[f"held_{direction}"] += len(data)
                elif gate.delay_s:
                    self._counters[f"delayed_{direction}"] += len(data)
                await gate.passed()
                if not data:
                    break
                self._counters[f"passed_{direction}"] += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


def _set_lingering_off(writer: asyncio.StreamWriter) -> None:
    # Closing then sends an RST.
    sock = writer.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def serve(target_host: str, target_port: int) -> None:
    """Obey commands until standard input ends."""
    proxy = ProxyServer(target_host, target_port)
    await proxy.start()
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    print(json.dumps(proxy.state), flush=True)
    while line := await commands.readline():
        name, arguments = json.loads(line)
        await getattr(proxy, name)(**arguments)
        print(json.dumps(proxy.state), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
