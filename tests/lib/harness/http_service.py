"""A service with HTTP in a process of its own, and what clients on plain sockets see of it."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from harness.process import Process, Processes

MIB = 1024 * 1024

SERVICE = """
import gc

from greenlet import greenlet
from werkzeug.wrappers import Response

from nameko.web.handlers import http


class Service:
    name = "service"

    @http("GET,POST,PUT,PATCH,DELETE,TRACE,OPTIONS,PROPFIND,MKCOL,LOCK,PURGE,QUERY", "/")
    def root(self, request):
        return str(len(request.get_data()))

    @http("GET", "/next")
    def next(self, request):
        return "next"

    @http("GET", "/large/<int:size>")
    def large(self, request, size):
        return "x" * size

    @http("GET", "/greenthreads")
    def greenthreads(self, request):
        gc.collect()
        return str(sum(issubclass(type(each), greenlet) and not each.dead for each in gc.get_objects()))

    @http("GET", "/bad/<kind>")
    def bad(self, request, kind):
        injected = "x\\r\\nX-Injected: 1\\r\\n\\r\\nHTTP/1.1 200 OK"
        return {
            "status": (f"200 {injected}", "body"),
            "value": (200, {"X-A": injected}, "body"),
            "name": (200, {injected: "a"}, "body"),
            "non-latin-1": (200, {"X-A": "\\u20ac"}, "body"),
            "nul": (200, {"X-A": "a\\0b"}, "body"),
            "response": Response("body", status=f"200 {injected}"),
        }[kind]
"""


class Server:
    """The process, and its address."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self.pid = process.pid
        self.port = port

    def connect(self, timeout_s: float = 30) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def exchange(self, data: bytes, step: int = 0) -> bytes:
        """Send `data`, in pieces of `step` bytes if that is not 0, and read all that comes until the server closes."""
        with self.connect() as sock:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                for start in range(0, len(data), step or len(data)):
                    sock.sendall(data[start : start + (step or len(data))])
            return read_to_end(sock)

    def get(self, path: str) -> str:
        """The body of a response with status 200."""
        answer = self.exchange(f"GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return answer.partition(b"\r\n\r\n")[2].decode()


def read_to_end(sock: socket.socket) -> bytes:
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            data += part
    return data


def abort(sock: socket.socket) -> None:
    """Close it with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_for(condition: Callable[[], Any], timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)
    return value


def serve(processes: Processes, prelude: str = "", **config: Any) -> Server:
    """The service above, answering; `prelude` is run in its process before."""
    process = processes.run_services(prelude + SERVICE, {"WEB_SERVER_ADDRESS": "127.0.0.1:0", **config})
    listening = re.search(r"listening on 127\.0\.0\.1:(\d+)", process.output)
    assert listening is not None
    return Server(process, int(listening[1]))
