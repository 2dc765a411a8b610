"""Command ``edge-run doctor``: print findings as they are made, a summary and an exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click

from edge_runtime.doctor.bundle import Measured, examine_model
from edge_runtime.doctor.findings import Finding, Level, count
from edge_runtime.doctor.machine import examine_board, examine_cameras, examine_edge_tpu, examine_python, this_python
from edge_runtime.doctor.packages import examine_packages
from edge_runtime.errors import ModelError
from edge_runtime.strict import to_mapping
from edge_runtime.text import escape
from edge_runtime.version import __version__

SCHEMA_VERSION = 1
_EXIT_PROBLEM = 1
_TOPIC_WIDTH = 15
_MARKS = {Level.OK: "ok", Level.INFO: "note", Level.WARNING: "WARNING", Level.PROBLEM: "PROBLEM"}
_MARK_WIDTH = max(map(len, _MARKS.values())) + 1


def run_doctor(model: Path | None, *, as_json: bool) -> int:
    """Look at the machine, and at a model or bundle on it.

    Args:
        model: A model file or bundle, or None.
        as_json: One object at the end instead of a line for each finding.

    Returns:
        0, or 1 where there is a problem.

    Raises:
        ModelError: There is nothing at ``model``.
    """
    if model is not None and not model.exists():
        raise ModelError(f"{model}: no such file or folder; expected a bundle, a .tflite or an .onnx file")
    outcome, findings = Measured(), []
    for finding in _examine(model, outcome):
        findings.append(finding)
        if not as_json:
            for line in describe(finding):
                click.echo(escape(line))
    problems, warnings = count(findings, Level.PROBLEM), count(findings, Level.WARNING)
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
        click.echo(f"\n{_counted(problems, 'problem')}, {_counted(warnings, 'warning')}")
    return _EXIT_PROBLEM if problems else 0


def describe(finding: Finding) -> Iterator[str]:
    """One finding as lines for a person."""
    yield f"{_MARKS[finding.level]:{_MARK_WIDTH}}{finding.topic:{_TOPIC_WIDTH}} {finding.found}"
    if finding.remedy:
        yield f"{'':{_MARK_WIDTH + _TOPIC_WIDTH}} to do: {finding.remedy}"


def _examine(model: Path | None, outcome: Measured) -> Iterator[Finding]:
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
