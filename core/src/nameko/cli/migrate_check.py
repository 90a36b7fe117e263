"""`nameko migrate-check`: imports services that were written for nameko 2.14 and says what is different now."""

from __future__ import annotations

import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import click

from nameko.cli._migration import (
    Finding,
    Severity,
    check_configuration,
    check_services,
    check_source,
    import_modules,
    project_files,
)
from nameko.config import config as global_config
from nameko.config_keys import declared_keys
from nameko.plugins import PluginManager


def main(plugins: PluginManager, services: Sequence[str], config_file: str | None, strict: bool, as_json: bool) -> int:
    """Print what differs for the services that `services` name, under the process-wide configuration.

    :param plugins: who declares configuration keys
    :param config_file: where the configuration is from
    :param strict: let notes count as well
    :param as_json: print a JSON array of objects
    :returns: the exit status: 1 when there are findings that count, 0 when there are none
    """
    keys = declared_keys(plugins.config_keys())
    with redirect_stdout(sys.stderr):  # what modules print when they are imported is no finding
        found = {*check_configuration(global_config, keys, config_file), *_findings(services, global_config)}
    findings = sorted(found)
    actions = sum(finding.severity is Severity.ACTION for finding in findings)
    notes = len(findings) - actions
    if as_json:
        import json

        click.echo(json.dumps([_as_object(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            click.echo(f"{finding.place}: {finding.severity.value}: {finding.difference}\n    {finding.remedy}")
        click.echo(_summary(actions, notes, strict))
    return 1 if actions or (strict and notes) else 0


def _findings(specs: Sequence[str], config: MutableMapping[str, Any]) -> Iterator[Finding]:
    services, findings = import_modules(specs)
    yield from findings
    for path in project_files([spec.partition(":")[0] for spec in specs]):
        yield from check_source(path, config)
    yield from check_services(services, config)


def _as_object(finding: Finding) -> dict[str, Any]:
    return {
        "severity": finding.severity.value,
        "file": finding.file,
        "line": finding.line or None,
        "difference": finding.difference,
        "remedy": finding.remedy,
    }


def _summary(actions: int, notes: int, strict: bool) -> str:
    if not actions and not notes:
        return "Nothing differs."
    noted = f"{notes or 'no'} note{'' if notes == 1 else 's'}"
    if actions:
        return f"{actions} finding{'s' if actions > 1 else ''} to act on, {noted}."
    return f"Nothing to act on, {noted}{': --strict counts them' if strict else ''}."
