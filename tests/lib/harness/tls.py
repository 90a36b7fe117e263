"""Certificates of an authority of the tests' own, and a TLS listener in front of a broker."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nameko import concurrency

# Takes TLS off and passes on what is in it, in a process of its own. It prints its port, and then a line for each
# client that has agreed to the certificate: it says something.
_TERMINATOR = """
import asyncio, ssl, sys
certificate, key, host, port = sys.argv[1:]
async def pump(reader, writer, data=b""):
    try:
        while data := data or await reader.read(65536):
            writer.write(data)
            await writer.drain()
            data = b""
    except (OSError, ssl.SSLError):
        pass
    writer.close()
async def serve(reader, writer):
    try:
        first = await reader.read(65536)
    except (OSError, ssl.SSLError):
        first = b""
    if not first:
        return writer.close()
    print("connected", flush=True)
    upstream = await asyncio.open_connection(host, int(port))
    await asyncio.gather(pump(reader, upstream[1], first), pump(upstream[0], writer))
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority (`ca.pem`), another one (`other-ca.pem`), and what the first one has signed.

    That is `good` for `localhost`, `wrong-host`, and `expired`, each with its key.
    """
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    folder = tmp_path_factory.mktemp("tls")
    for authority in ("ca", "other-ca"):
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={authority}"),
            *("-keyout", folder / f"{authority}.key", "-out", folder / f"{authority}.pem"),
        )
    for name, host, days in (
        ("good", "localhost", "2"),
        ("wrong-host", "example.org", "2"),
        ("expired", "localhost", "-1"),
    ):
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"),
            *("-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr"),
        )
        _openssl(
            *("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key"),
            *("-CAcreateserial", "-days", days, "-copy_extensions", "copy", "-out", folder / f"{name}.pem"),
        )
    return folder


class Terminator:
    """A TLS listener in front of a broker.

    :param certificate: what it shows, with its key beside it
    :param uri: of the broker behind it
    """

    def __init__(self, certificate: Path, uri: str) -> None:
        parts = urlsplit(uri)
        self._output = certificate.with_name(f"{certificate.stem}-{id(self)}.output")
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-c", _TERMINATOR),
                    *(str(certificate), str(certificate.with_suffix(".key")), str(parts.hostname), str(parts.port)),
                ],
                stdout=output,
                stderr=subprocess.DEVNULL,
            )
        with concurrency.cancel_after(30, AssertionError("the TLS listener does not start")):
            while not self._lines():
                concurrency.sleep(0.02)
        #: The broker through it.
        self.uri = f"amqps://{parts.username}:{parts.password}@localhost:{self._lines()[0].strip()}{parts.path}"

    def _lines(self) -> list[str]:
        return [line for line in self._output.read_text().splitlines(keepends=True) if line.endswith("\n")]

    @property
    def connects(self) -> int:
        """How many clients have agreed to its certificate."""
        return len(self._lines()) - 1

    def close(self) -> None:
        """End it, with its connections."""
        self._process.kill()
        concurrency.run_in_native_thread(self._process.wait)


@pytest.fixture
def tls_listener(certificates: Path, rabbitmq_uri: str) -> Iterator[Callable[[str], Terminator]]:
    """`tls_listener(name)`: RabbitMQ behind TLS, with the certificate of that name."""
    started: list[Terminator] = []

    def start(name: str) -> Terminator:
        terminator = Terminator(certificates / f"{name}.pem", rabbitmq_uri)
        started.append(terminator)
        return terminator

    yield start
    for terminator in started:
        terminator.close()
