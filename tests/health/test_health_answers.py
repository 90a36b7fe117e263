"""What is answered about the services of this process."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from nameko.concurrency import Event, spawn_task
from nameko.containers import ServiceContainer
from nameko.exceptions import ConfigurationError
from nameko.extensions import Entrypoint
from nameko.health import _plugin as health_plugin
from nameko.plugins import PluginManager, hookimpl
from nameko.web.handlers import http as http_entrypoint
from nameko.web.server import WebServer


class Plain:
    name = "plain"


class Web:
    name = "web"

    @http_entrypoint("GET", "/wait")
    def method(self, request: Any) -> str:
        request.wait()
        return ""


def address_of(container: ServiceContainer) -> str:
    (server,) = (each for each in container.shared_extensions.values() if isinstance(each, WebServer))
    return str(server.bound_address)


def test_on_a_socket_of_its_own(make_container, ask, tmp_path):
    path = tmp_path / "health.sock"
    container = make_container(Plain, HEALTH_SOCKET=str(path))
    container.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(str(path), "/health/live") == (200, {"live": True, "pid": os.getpid()})
    ready = {"ready": True, "pid": os.getpid(), "services": {"plain": []}}
    assert ask(str(path), "/health/ready") == (200, ready)
    assert ask(str(path), "/health")[0] == 404
    container.stop()
    assert not path.exists()


def test_on_the_web_server_while_all_workers_are_busy(make_container, ask, eventually):
    container = make_container(Web, WEB_SERVER_ADDRESS="127.0.0.1:0", max_workers=1)
    container.start()
    (entrypoint,) = container.entrypoints
    container.spawn_worker(entrypoint, (Event(),), {})
    eventually(lambda: container.running_workers == 1)
    assert ask(address_of(container), "/health/ready")[0] == 200
    assert ask(address_of(container), "/health/live", "HEAD")[0] == 200
    assert ask(address_of(container), "/health/live", "POST")[0] == 405
    assert ask(address_of(container), "/health/other")[0] == 404


def test_off_the_web_server(make_container, tmp_path, ask):
    path = str(tmp_path / "health.sock")
    container = make_container(
        Web, WEB_SERVER_ADDRESS="127.0.0.1:0", HEALTH_PATH=False, HEALTH_SOCKET=path, HEALTH_ADDRESS=f"unix:{path}2"
    )
    container.start()
    (server,) = (each for each in container.shared_extensions.values() if isinstance(each, WebServer))
    assert "/health" not in [mount.path for mount in server.mounts]
    assert ask(path, "/health/ready")[0] == ask(f"{path}2", "/health/ready")[0] == 200


def test_at_another_path(make_container, ask):
    container = make_container(Web, WEB_SERVER_ADDRESS="127.0.0.1:0", HEALTH_PATH="/internal/state")
    container.start()
    assert ask(address_of(container), "/internal/state/ready")[0] == 200


def test_a_container_is_unready_until_it_has_started_and_from_its_stop_on(make_container, ask, eventually, tmp_path):
    begun, stopping, go = Event(), Event(), {"start": Event(), "stop": Event()}

    class Slow(Entrypoint):
        def start(self) -> None:
            begun.send(None)
            go["start"].wait()

        def stop(self) -> None:
            stopping.send(None)
            go["stop"].wait()

    class Service:
        name = "slow"

        @Slow.decorator
        def method(self) -> None:
            pass

    path = str(tmp_path / "health.sock")
    slow, other = make_container(Service, HEALTH_SOCKET=path), make_container(Plain, HEALTH_SOCKET=path)
    other.start()
    starting = spawn_task(slow.start)
    begun.wait()
    status, body = ask(path, "/health/ready")
    assert (status, body["ready"]) == (503, False)
    assert body["services"] == {"plain": [], "slow": ["slow is starting"]}
    assert ask(path, "/health/live")[0] == 200
    go["start"].send(None)
    starting.wait()
    assert ask(path, "/health/ready")[0] == 200
    ending = spawn_task(slow.stop)
    stopping.wait()
    status, body = ask(path, "/health/ready")
    assert (status, body["services"]["slow"]) == (503, ["slow is stopping"])
    go["stop"].send(None)
    ending.wait()
    assert ask(path, "/health/ready")[1]["services"] == {"plain": []}


def test_what_plugins_say_about_readiness(make_container, ask, tmp_path):
    reasons = ["the moon is in the wrong quarter"]

    class Moon:
        @hookimpl
        def nameko_ready(self) -> list[str]:
            if not reasons:
                raise ZeroDivisionError
            return reasons

    path = str(tmp_path / "health.sock")
    plugins = PluginManager.with_plugins({"health": health_plugin, "moon": Moon()})
    make_container(Plain, plugins, HEALTH_SOCKET=path).start()
    assert ask(path, "/health/ready")[1]["services"] == {"plain": ["the moon is in the wrong quarter"]}
    reasons.clear()
    status, body = ask(path, "/health/ready")
    assert (status, body["services"]) == (503, {"plain": ["plugin moon cannot tell: ZeroDivisionError"]})


def test_containers_of_one_name_are_ready_together(make_container, ask, tmp_path):
    path = str(tmp_path / "health.sock")
    first, second = (make_container(Plain, HEALTH_SOCKET=path) for _ in range(2))
    first.start()
    second.start()
    second.started = False
    assert ask(path, "/health/ready")[1]["services"] == {"plain": ["plain is not started"]}
    second.started = True
    assert ask(path, "/health/ready")[0] == 200


def test_a_container_that_was_given_up_is_forgotten(make_container, ask, tmp_path):
    path = str(tmp_path / "health.sock")
    make_container(Plain, HEALTH_SOCKET=path).start()
    given_up = ServiceContainer(type("GivenUp", (), {"name": "given_up"}), {})
    given_up.start()
    assert set(ask(path, "/health/ready")[1]["services"]) == {"plain", "given_up"}
    del given_up
    for _ in range(2):
        assert set(ask(path, "/health/ready")[1]["services"]) == {"plain"}


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"HEALTH_SOCKET": 3}, "HEALTH_SOCKET must be the path of a Unix socket, true or false, not 3"),
        ({"HEALTH_SOCKET": ""}, "HEALTH_SOCKET must be"),
        ({"HEALTH_ADDRESS": "nowhere"}, "HEALTH_ADDRESS must be"),
        ({"HEALTH_PATH": True}, "HEALTH_PATH must be a path, or false"),
        ({"HEALTH_PATH": "health"}, "HEALTH_PATH must be a path like"),
        ({"HEALTH_SOCKET": "/no/such/directory/health.sock"}, "HEALTH_SOCKET: cannot listen on unix:/no/such/"),
    ],
)
def test_what_cannot_work_ends_the_start(make_container, config, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        make_container(Plain, **config).start()


def test_the_socket_by_default(make_container, ask, tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    make_container(Plain, HEALTH_SOCKET=True).start()
    assert stat.S_IMODE((tmp_path / "nameko").stat().st_mode) == 0o700
    assert ask(str(tmp_path / "nameko/health.sock"), "/health/ready")[0] == 200
