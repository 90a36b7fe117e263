"""What the distribution tells others: hooks, pytest fixtures, examples."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from nameko.plugins import PluginManager
from nameko.web import _plugin
from nameko.web._settings import KEYS, HttpSettings

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_every_setting_is_declared_with_its_default():
    keys = {key.name: key for key in _plugin.nameko_config_keys()}
    assert keys.keys() == {key.name for key in KEYS.values()}
    assert keys["WEB_SERVER_ADDRESS"].default == "127.0.0.1:8000"
    assert all(key.help and key.type for key in keys.values())
    assert set(HttpSettings.__dataclass_fields__) == set(KEYS)
    defaults = HttpSettings.from_config({})
    assert defaults == HttpSettings.from_config({name: key.default for name, key in keys.items()})


def test_limits_are_those_that_are_promised():
    settings = HttpSettings.from_config({})
    assert settings.max_request_line_bytes == 8 * 1024
    assert settings.max_header_fields == 100
    assert settings.max_header_bytes == 32 * 1024
    assert settings.max_body_bytes == 16 * 1024 * 1024
    assert settings.header_timeout_s == 10
    assert settings.stall_timeout_s == 30
    assert settings.keepalive_timeout_s == 15
    assert settings.max_connections == 1000
    assert settings.graceful_timeout_s == 30
    assert settings.websocket_max_message_bytes == 64 * 1024


def test_extensions():
    names = [info.cls.__name__ for info in _plugin.nameko_extensions()]
    assert names == ["HttpRequestHandler", "WebSocketRpc", "WebSocketHubProvider"]
    assert all(info.help for info in _plugin.nameko_extensions())


def test_hooks_are_sound():
    PluginManager.with_plugins({"http": _plugin}).check()


@pytest.mark.parametrize("module", ["nameko.testing.pytest_web", "nameko.web._plugin"])
def test_importing_the_plugins_is_cheap(module):
    heavy = ["eventlet", "werkzeug", "requests", "kombu"]
    program = f"import {module}, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_amqp_is_needed():
    program = (
        "import nameko.web.handlers, nameko.web.websocket, sys; print('kombu' in sys.modules or 'amqp' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# -- examples


def service_of(example: str) -> type:
    spec = importlib.util.spec_from_file_location(f"example_{example}", EXAMPLES / f"{example}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (service,) = (each for each in vars(module).values() if isinstance(each, type) and hasattr(each, "name"))
    return service


def test_http_example(serve):
    service = serve(service_of("http"))
    response = service.get("/get/42")
    assert (response.status, json.loads(response.text)) == (200, {"value": 42})
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert service.get("/post", "POST", b"post body").text == "received: post body"
    assert [service.get("/multi", method).text for method in ("GET", "PUT", "POST", "DELETE")] == [
        "GET", "PUT", "POST", "DELETE",
    ]  # fmt: skip


def test_advanced_http_example(serve):
    service = serve(service_of("advanced_http"))
    response = service.get("/privileged")
    assert (response.status, response.text, response.headers["content-length"]) == (403, "Forbidden", "9")
    response = service.get("/headers")
    assert (response.status, response.text) == (201, "")
    assert response.headers["location"] == "https://www.example.com/widget/1"
    assert service.get("/custom").text == "payload"


def test_http_exceptions_example(serve):
    response = serve(service_of("http_exceptions")).get("/custom_exception")
    assert response.status == 400
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.text) == {"error": "INVALID_ARGUMENTS", "message": "Argument `foo` is required."}


def test_nameko_run_and_sigterm(tmp_path):
    """As printed: `nameko run http`, in the directory of `http.py`."""
    (tmp_path / "config.yaml").write_text("WEB_SERVER_ADDRESS: 127.0.0.1:0\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "nameko", "run", "--config", str(tmp_path / "config.yaml"), "http"],
        cwd=EXAMPLES,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if match := re.search(r"listening on (\S+)", line):
                break
        assert any("starting services: http_service" in line for line in lines)
        with urllib.request.urlopen(f"http://{match[1]}/get/42", timeout=10) as answer:
            assert json.loads(answer.read()) == {"value": 42}
        process.send_signal(signal.SIGTERM)
        started_at = time.monotonic()
        assert process.wait(10) == 0
        assert time.monotonic() - started_at < 3
    finally:
        process.kill()
        process.communicate()
