"""Row 38: a broker whose certificate does not verify, or that does not speak what is expected, is refused at once."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from nameko import concurrency

pytestmark = [pytest.mark.matrix, pytest.mark.rabbitmq, pytest.mark.timeout(300)]

# Of which the process was ready to run and the machine busy with something else, none counts.
REFUSED_S = 5

ECHO = """
import atexit, time
from nameko.rpc import rpc

def queued_s():
    with open("/proc/self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9

class Echo:
    name = "echo"

    @rpc
    def echo(self): pass

imported_at = time.monotonic(), queued_s()
atexit.register(lambda: print("took", time.monotonic() - imported_at[0], queued_s() - imported_at[1], flush=True))
"""


def run_nameko(directory: Path, config: dict[str, Any]) -> tuple[int, str, float]:
    """Status, what was printed, and how many seconds the process has used after the import of it all."""
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    (directory / "echo.py").write_text(ECHO)
    done = concurrency.run_in_native_thread(
        subprocess.run,
        [sys.executable, "-m", "nameko", "run", "--config", "config.yaml", "echo"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=50,
    )
    took_s, queued_s = map(float, re.search(r"took (\S+) (\S+)", done.stdout).groups())  # type: ignore[union-attr]
    print(f"ended after {took_s:.2f} s, of which it stood in line for a processor for {queued_s:.2f} s")
    return done.returncode, done.stdout + done.stderr, took_s - queued_s


@pytest.mark.parametrize(
    ("certificate", "authority", "reason"),
    [
        ("wrong-host", "ca", "Hostname mismatch"),
        ("good", "other-ca", "self-signed certificate|unable to get local issuer"),
        ("good", None, "self-signed certificate|unable to get local issuer"),
        ("expired", "ca", "certificate has expired"),
    ],
)
def test_row_38_a_certificate_that_does_not_verify_is_refused(
    tls_listener: Callable[[str], Any],
    certificates: Path,
    tmp_path: Path,
    certificate: str,
    authority: str | None,
    reason: str,
) -> None:
    listener = tls_listener(certificate)
    ssl: Any = {"ca_certs": str(certificates / f"{authority}.pem")} if authority else True
    status, output, seconds = run_nameko(tmp_path, {"AMQP_URI": listener.uri, "AMQP_SSL": ssl})
    lines = [line for line in output.splitlines() if re.search(reason, line)]
    assert (status, len(lines), listener.connects) == (1, 1, 0), output
    assert "Traceback" not in output
    assert seconds <= REFUSED_S


def test_row_38_what_does_not_speak_tls_is_refused(rabbitmq_uri: str, certificates: Path, tmp_path: Path) -> None:
    uri = rabbitmq_uri.replace("pyamqp://", "amqps://")
    config = {"AMQP_URI": uri, "AMQP_SSL": {"ca_certs": str(certificates / "ca.pem")}}
    status, output, seconds = run_nameko(tmp_path, config)
    assert status == 1, output
    assert len([line for line in output.splitlines() if "TLS" in line]) == 1, output
    assert "Traceback" not in output
    assert seconds <= REFUSED_S


@pytest.fixture
def rabbitmqs_tls_port() -> Iterator[int]:
    """What a client that does not speak TLS gets to hear there: an alert, "unexpected message", and the end."""
    listener = concurrency.listen(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            client, _ = listener.accept()
            client.recv(100)
            client.sendall(b"\x15\x03\x03\x00\x02\x02\x0a")
            client.close()

    thread = concurrency.spawn(serve)
    yield listener.getsockname()[1]
    thread.kill()
    listener.close()


def test_row_38_a_plain_client_is_told_to_speak_tls(rabbitmqs_tls_port: int, tmp_path: Path) -> None:
    uri = f"amqp://guest:guest@localhost:{rabbitmqs_tls_port}"
    status, output, seconds = run_nameko(tmp_path, {"AMQP_URI": uri})
    assert status == 1, output
    assert len([line for line in output.splitlines() if "TLS" in line]) == 1, output
    assert "Traceback" not in output
    assert seconds <= REFUSED_S


def test_row_38_what_verifies_is_connected_to(
    tls_listener: Callable[[str], Any], certificates: Path, make_site: Callable[[], Any]
) -> None:
    listener, site = tls_listener("good"), make_site()
    uri = f"{listener.uri.rpartition('/')[0]}/{site.uri.rpartition('/')[2]}"
    site.run("subject:Subject", AMQP_URI=uri, AMQP_SSL={"ca_certs": str(certificates / "ca.pem")})
    assert site.raw().call("subject.echo", 1) == {"result": [1], "error": None}
    assert listener.connects == 2  # a connection to publish, and one to consume
