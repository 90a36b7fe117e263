"""Asking a running process about its health. Must be quick: it imports no service, no eventlet and no kombu."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Mapping
from http import HTTPStatus
from time import monotonic
from typing import Any

import click

from nameko.addresses import Address, parse_address
from nameko.exceptions import ConfigurationError, TemporaryFailure
from nameko.health._settings import HealthSettings, default_socket

# An answer has a line for each reason of each service; who sends more than this is no nameko process.
_MAX_ANSWER_BYTES = 1024 * 1024
_STATUS_WELL, _STATUS_UNWELL = 0, 1


def ask(
    config: Mapping[str, Any], target: str | None, check: str, timeout_s: float, workers: int, as_json: bool
) -> int:
    """Ask, and print what is answered.

    :param target: where; None for where the configuration says
    :param check: `ready` or `live`
    :param timeout_s: how long all answers together may take
    :param workers: how many processes to ask, each on its own address
    :returns: the exit status
    :raises click.UsageError: when the target is none, or too high a port for so many processes
    :raises ConfigurationError: when the configuration cannot be what it is meant to be
    :raises TemporaryFailure: when a process does not answer, or something else does
    """
    settings = HealthSettings.from_config(config)
    address = _configured(settings) if target is None else _given(target, workers)
    deadline = monotonic() + timeout_s
    well, silent = True, None
    for index in range(workers):
        try:
            status, body = _request(address.of_worker(index), f"{settings.path}/{check}", deadline)
        except TemporaryFailure as exc:
            silent = silent or exc
        else:
            well = well and status == HTTPStatus.OK
            _show(body, as_json)
    if silent is not None:
        raise silent
    return _STATUS_WELL if well else _STATUS_UNWELL


def _configured(settings: HealthSettings) -> Address:
    return next(iter(settings.addresses.values()), None) or default_socket()


def _given(target: str, workers: int) -> Address:
    try:
        address = _parse_target(target)
        address.of_worker(workers - 1)
    except ConfigurationError as exc:
        raise click.UsageError(f"{exc}.") from exc
    return address


def _parse_target(target: str) -> Address:
    if "/" in target and ":" not in target:
        return Address("", 0, target)
    try:
        return parse_address(target, "TARGET")
    except ConfigurationError as exc:
        if _is_socket(target):
            return Address("", 0, target)
        raise ConfigurationError(f"{exc}; nor is there a Unix socket of that name") from exc


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _request(address: Address, path: str, deadline: float) -> tuple[int, dict[str, Any]]:
    try:
        with _connect(address, deadline) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {address.host or 'localhost'}\r\n\r\n".encode())
            answer = _read_all(connection, deadline)
    except OSError as exc:
        raise TemporaryFailure(f"no process answers at {address}: {exc.strerror or exc}") from exc
    return _parse(answer, address, path)


def _connect(address: Address, deadline: float) -> socket.socket:
    timeout_s = _remaining_s(deadline)
    if address.unix_path is None:
        return socket.create_connection((address.host, address.port), timeout_s)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout_s)
    try:
        connection.connect(address.unix_path)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_all(connection: socket.socket, deadline: float) -> bytes:
    answer = b""
    while len(answer) <= _MAX_ANSWER_BYTES:
        connection.settimeout(_remaining_s(deadline))
        data = connection.recv(65536)
        if not data:
            break
        answer += data
    return answer


def _remaining_s(deadline: float) -> float:
    remaining_s = deadline - monotonic()
    if remaining_s <= 0:
        raise TimeoutError("timed out")
    return remaining_s


def _parse(answer: bytes, address: Address, path: str) -> tuple[int, dict[str, Any]]:
    head, _, body = answer.partition(b"\r\n\r\n")
    try:
        status = int(head.split(maxsplit=2)[1])
        content = json.loads(body)
    except (IndexError, ValueError):
        status, content = 0, None
    if not isinstance(content, dict) or not {"live", "ready"} & content.keys():
        raise TemporaryFailure(f"what answers at {address}{path} is no nameko process with nameko-health")
    return status, content


def _show(body: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(body))
    elif "live" in body:
        print(f"process {body.get('pid')} is alive")
    else:
        for service, reasons in body.get("services", {}).items():
            print(f"{service}: {'; '.join(reasons) or 'ready'}")
