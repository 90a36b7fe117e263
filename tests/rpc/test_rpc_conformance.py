"""RPC's entrypoint, dependencies and plugin keep what nameko asks of every one."""

from __future__ import annotations

from typing import Any

import pytest

from nameko.containers import ServiceContainer
from nameko.rpc import ClusterRpc, Rpc, ServiceRpc, _plugin, rpc
from nameko.runners import ServiceRunner
from nameko.standalone.rpc import ClusterRpcProxy
from nameko.testing.plugins import DependencyProviderConformance, EntrypointConformance, PluginConformance


class OnBroker:
    """The in-process broker of the test."""

    @pytest.fixture(autouse=True)
    def broker(self, memory_uri: str) -> None:
        self.config = {"AMQP_URI": memory_uri}

    def make_config(self) -> dict[str, Any]:
        return dict(self.config)


class TestRpc(OnBroker, EntrypointConformance):
    def make_extension(self) -> Rpc:
        return Rpc()

    def trigger(self, container: ServiceContainer) -> None:
        with ClusterRpcProxy(self.config, timeout=5) as cluster:
            cluster.conformance.run()


class Echo:
    name = "echo"

    @rpc
    def echo(self, value: str) -> str:
        return value


class WithEcho(OnBroker):
    """With a service to call."""

    @pytest.fixture(autouse=True)
    def echo(self, broker: None, runner_factory: Any) -> None:
        runner: ServiceRunner = runner_factory(self.config, Echo)
        runner.start()


class TestServiceRpc(WithEcho, DependencyProviderConformance):
    def make_extension(self) -> ServiceRpc:
        return ServiceRpc("echo")

    def use(self, dependency: Any) -> None:
        assert dependency.echo("hello") == "hello"


class TestClusterRpc(WithEcho, DependencyProviderConformance):
    def make_extension(self) -> ClusterRpc:
        return ClusterRpc()

    def use(self, dependency: Any) -> None:
        assert dependency.echo.echo("hello") == "hello"


class TestPlugin(PluginConformance):
    def make_plugin(self) -> object:
        return _plugin
