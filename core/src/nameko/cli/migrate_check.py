"""`nameko migrate-check`: imports services that were written for nameko 2.14 and says what is different now."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any

import click

from nameko.cli._migration import Finding, check_configuration, check_services, check_source, project_files
from nameko.cli._services import NAMESAKES_REMEDY, describe_namesakes, import_service
from nameko.config import config as global_config
from nameko.config_keys import declared_keys
from nameko.exceptions import CommandError
from nameko.plugins import PluginManager


def main(plugins: PluginManager, services: Sequence[str], config_file: str | None) -> int:
    """Print what differs for the services that `services` name, under the process-wide configuration.

    :param plugins: who declares configuration keys
    :param config_file: where the configuration is from
    :returns: the exit status: 1 when there are findings, 0 when there are none
    """
    keys = declared_keys(plugins.config_keys())
    findings = {*check_configuration(global_config, keys, config_file), *_findings(services, global_config)}
    for finding in sorted(findings):
        click.echo(f"{finding.place}: {finding.difference}\n    {finding.remedy}")
    click.echo(_summary(len(findings)))
    return 1 if findings else 0


def _findings(specs: Sequence[str], config: MutableMapping[str, Any]) -> Iterator[Finding]:
    classes: list[type] = []
    for spec in specs:
        try:
            classes += import_service(spec)
        except CommandError as exc:
            yield Finding(spec, 0, str(exc), _remedy(str(exc)))
    for path in project_files([spec.partition(":")[0] for spec in specs]):
        yield from check_source(path, config)
    services = list(dict.fromkeys(classes))
    yield from _namesakes(services)
    yield from check_services(services, config)


def _namesakes(services: Sequence[type]) -> Iterator[Finding]:
    by_name: dict[str, type] = {}
    for cls in services:
        name = getattr(cls, "name", None)
        if not name or not isinstance(name, str):  # which is a finding of its own
            continue
        other = by_name.setdefault(name, cls)
        if other is not cls:
            yield Finding(
                cls.__module__, 0, describe_namesakes(other, cls), f"one process takes one: {NAMESAKES_REMEDY}"
            )


def _remedy(failure: str) -> str:
    if "'pkg_resources'" in failure:  # nameko-amqp-retry imports it
        return "pip install 'setuptools<81', the last ones that have it"
    return "`nameko run` says the same: mend the module first, then check again"


def _summary(count: int) -> str:
    if not count:
        return "Nothing differs."
    return f"{count} finding{'s' if count > 1 else ''}."
