"""Standalone proxies over TLS: verified unless told otherwise."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.exceptions import RpcTimeout
from nameko.rpc import rpc
from nameko.standalone.rpc import ClusterRpcProxy

pytestmark = pytest.mark.rabbitmq

Start = Callable[..., ServiceContainer]

# Takes TLS off and passes on what is in it, in a process of its own: certificate, key, host, port.
UNWRAP = """
import asyncio, ssl, sys
certificate, key, host, port = sys.argv[1:]
async def pump(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    writer.close()
async def serve(reader, writer):
    upstream = await asyncio.open_connection(host, int(port))
    await asyncio.gather(pump(reader, upstream[1]), pump(upstream[0], writer))
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


class Echo:
    name = "echo"

    @rpc
    def echo(self, value: Any = None) -> Any:
        return value

    @rpc
    def sleep(self, seconds: float) -> float:
        concurrency.sleep(seconds)
        return seconds


@pytest.fixture(params=["rabbitmq"])
def broker_uri(rabbitmq_uri: str) -> str:
    return rabbitmq_uri


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for `localhost`, signed by itself; its key is beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make certificates with")
    path = tmp_path_factory.mktemp("tls") / "localhost.pem"
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run([*request, *names], check=True, capture_output=True, timeout=30)
    return path


@pytest.fixture
def tls_uri(certificate: Path, rabbitmq_uri: str) -> Iterator[str]:
    """RabbitMQ behind TLS, as `localhost`."""
    parts = urlsplit(rabbitmq_uri)
    process = subprocess.Popen(
        [sys.executable, "-c", UNWRAP, certificate, certificate.with_suffix(".key"), parts.hostname, str(parts.port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    yield f"amqps://guest:guest@localhost:{port}{parts.path}"
    process.kill()
    concurrency.run_in_native_thread(process.wait)
    process.stdout.close()


def test_call_over_tls(start: Start, tls_uri: str, certificate: Path) -> None:
    start(Echo)
    config = {"AMQP_URI": tls_uri, "AMQP_SSL": {"ca_certs": str(certificate)}}
    with ClusterRpcProxy(config, timeout=5) as cluster:
        for value in (1, "x" * 1_000_000):  # many TLS records
            assert cluster.echo.echo(value) == value
        with pytest.raises(RpcTimeout):
            cluster.echo.sleep.with_options(timeout=0.2)(1)
        assert cluster.echo.echo(2) == 2


@pytest.mark.parametrize("options", [None, {}])
def test_unknown_authority_is_refused(tls_uri: str, options: Any) -> None:
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        ClusterRpcProxy({"AMQP_URI": tls_uri, "AMQP_SSL": options}, timeout=5),
    ):
        pass


def test_other_host_is_refused(tls_uri: str, certificate: Path) -> None:
    config = {"AMQP_URI": tls_uri.replace("localhost", "127.0.0.1"), "AMQP_SSL": {"ca_certs": str(certificate)}}
    with pytest.raises(ssl.SSLCertVerificationError), ClusterRpcProxy(config, timeout=5):
        pass


def test_verification_is_turned_off_in_so_many_words(start: Start, tls_uri: str) -> None:
    start(Echo)
    with ClusterRpcProxy({"AMQP_URI": tls_uri, "AMQP_SSL": {"verify": False}}, timeout=5) as cluster:
        assert cluster.echo.echo(1) == 1
