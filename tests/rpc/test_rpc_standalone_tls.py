"""Standalone proxies over TLS: verified unless told otherwise."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nameko import concurrency
from nameko.containers import ServiceContainer
from nameko.exceptions import RpcTimeout
from nameko.rpc import rpc
from nameko.standalone.rpc import ClusterRpcProxy

pytestmark = pytest.mark.rabbitmq

Start = Callable[..., ServiceContainer]


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


@pytest.fixture
def tls_uri(tls_listener: Callable[[str], Any]) -> str:
    """RabbitMQ behind TLS, as `localhost`."""
    return str(tls_listener("good").uri)


@pytest.fixture
def authority(certificates: Path) -> str:
    """The path of the certificate that has signed the broker's."""
    return str(certificates / "ca.pem")


def test_call_over_tls(start: Start, tls_uri: str, authority: str) -> None:
    start(Echo)
    config = {"AMQP_URI": tls_uri, "AMQP_SSL": {"ca_certs": authority}}
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


def test_other_host_is_refused(tls_uri: str, authority: str) -> None:
    config = {"AMQP_URI": tls_uri.replace("localhost", "127.0.0.1"), "AMQP_SSL": {"ca_certs": authority}}
    with pytest.raises(ssl.SSLCertVerificationError), ClusterRpcProxy(config, timeout=5):
        pass


def test_verification_is_turned_off_in_so_many_words(start: Start, tls_uri: str) -> None:
    start(Echo)
    with ClusterRpcProxy({"AMQP_URI": tls_uri, "AMQP_SSL": {"verify": False}}, timeout=5) as cluster:
        assert cluster.echo.echo(1) == 1
