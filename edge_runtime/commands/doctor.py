"""Command ``edge-run doctor``: print findings one by one, a summary and an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from edge_runtime.cli_support import say
from edge_runtime.doctor.bundle import Measured, examine_model
from edge_runtime.doctor.findings import Finding, Level
from edge_runtime.doctor.machine import examine_board, examine_cameras, examine_edge_tpu
from edge_runtime.doctor.packages import examine_packages, examine_python, this_python
from edge_runtime.errors import ModelError
from edge_runtime.strict import to_mapping
from edge_runtime.text import escape
from edge_runtime.version import __version__

SCHEMA_VERSION = 1
_EXIT_PROBLEM = 1
_COUNTED = (Level.PROBLEM, Level.WARNING)


def run_doctor(model: Path | None, *, as_json: bool) -> int:
    """Check the machine, and a model or bundle on it.

    Args:
        model: Path of a model file or bundle, or None.
        as_json: True to print one object at the end instead of a line for each finding.

    Returns:
        Exit code: 0, or 1 if there is a problem.

    Raises:
        ModelError: There is no such file or folder.
    """
    if model is not None and not model.exists():
        raise ModelError(f"{model}: no such file or folder; expected a bundle, a .tflite or an .onnx file")
    outcome, findings = Measured(), []
    for finding in examine(model, outcome):
        findings.append(finding)
        if not as_json:
            for line in finding.lines():
                say(escape(line))
    problems, warnings = (sum(finding.level is level for finding in findings) for level in _COUNTED)
    if as_json:
        report = {
            "schema_version": SCHEMA_VERSION,
            "edgekit": __version__,
            "problems": problems,
            "warnings": warnings,
            "findings": to_mapping(findings),
            "default_variant": to_mapping(outcome.default),
            "latency_ms": {variant.value: round(value_ms, 3) for variant, value_ms in outcome.latency_ms.items()},
        }
        click.echo(json.dumps(report, indent=2))
    else:
        say(f"\n{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}")
    return _EXIT_PROBLEM if problems else 0


def examine(model: Path | None, outcome: Measured) -> Iterator[Finding]:
    """Examine this machine, and a model if there is one, whose times go into ``outcome``."""
    return chain(
        examine_python(this_python()),
        examine_board(),
        examine_packages(),
        examine_edge_tpu(),
        examine_cameras(),
        examine_model(model, outcome) if model else (),
    )


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
