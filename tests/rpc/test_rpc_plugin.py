"""What nameko-rpc tells the framework about itself, and what its package offers."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import pytest

import nameko.rpc
from nameko.amqp import memory
from nameko.rpc import _plugin, rpc
from nameko.runners import run_services


class Echo:
    name = "echo"

    @rpc
    def echo(self, value: Any) -> Any:
        return value


def test_shell_gets_a_client_that_connects_when_it_is_used(memory_uri: str) -> None:
    config = {"AMQP_URI": memory_uri}
    broker = memory.get_broker(memory_uri.rpartition("/")[2])
    with ExitStack() as exit_stack, run_services(config, Echo):
        before = len(broker.connections)
        client = _plugin.nameko_shell_namespace(config, exit_stack)["rpc"]
        assert len(broker.connections) == before
        assert client.echo.echo(1) == 1
        assert len(broker.connections) == before + 1
        exit_stack.close()  # as by `n.disconnect()`
        assert len(broker.connections) == before
        assert client.echo.echo(2) == 2


def test_shell_opens_without_a_broker() -> None:
    with ExitStack() as exit_stack:
        namespace = _plugin.nameko_shell_namespace({"AMQP_URI": "pyamqp://guest@127.0.0.1:1/"}, exit_stack)
        with pytest.raises(ConnectionRefusedError):
            namespace["rpc"].echo.echo(1)


def test_extensions_and_keys() -> None:
    assert [info.cls.__name__ for info in _plugin.nameko_extensions()] == ["Rpc", "ServiceRpc", "ClusterRpc"]
    assert {key.name for key in _plugin.nameko_config_keys()} == {
        "rpc_exchange",
        "RPC_TIMEOUT",
        "RPC_EXPIRE_REQUESTS",
        "EXPOSE_ERRORS",
    }


def test_public_names_say_where_they_are_from() -> None:
    for name in nameko.rpc.__all__:
        value = getattr(nameko.rpc, name)
        if isinstance(value, type):
            assert value.__module__ == "nameko.rpc", name
    with pytest.raises(AttributeError, match=r"module 'nameko.rpc' has no attribute 'nothing'"):
        nameko.rpc.nothing  # noqa: B018


def test_plugin_is_found_without_importing_what_it_is_made_of() -> None:
    code = (
        "import sys, nameko.rpc._plugin as p; p.nameko_config_keys();"
        "print({'eventlet', 'kombu', 'amqp'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert output.stdout.strip() == "set()"
