"""nameko-grpc: a service that grpcio calls, and that another service calls through a `GrpcProxy`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nameko.testing.utils import find_free_port

pytestmark = pytest.mark.rabbitmq

SERVICES = Path(__file__).parent / "services"


@pytest.fixture
def parrot(host: Any, run_python: Callable[..., str]) -> int:
    """The port of a service."""
    shutil.copy(SERVICES / "parrot.proto", host.directory)
    run_python(
        *("-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=.", "parrot.proto"),
        directory=host.directory,
    )
    port = find_free_port()
    host.serve("with_grpc", {"GRPC_BIND_HOST": "127.0.0.1", "GRPC_BIND_PORT": port})
    return port


def test_grpc_between_nameko_and_others(host: Any, parrot: int, run_python: Callable[..., str]) -> None:
    heard = json.loads(run_python(SERVICES / "grpc_caller.py", str(parrot), directory=host.directory))
    assert heard == {
        "unary": "haha",
        "stream out": [0, 1, 2],
        "stream in": "who goes there",
        "stream both": ["WHO", "GOES", "THERE"],
        "metadata": "de",
        "error": ["INVALID_ARGUMENT", "nothing to repeat"],
    }


def test_grpc_between_services(host: Any, parrot: int) -> None:
    assert host.ask("owner", "talk", "ha", 3) == "hahaha"
    assert host.ask("owner", "listen", "ha", 2) == [0, 1]
