"""Lint one file for a target: findings, sizes and a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.lint import edgetpu
from convert.lint.edgetpu import Finding
from convert.tflite_model import OperatorFacts, minimum_runtime, read_model, read_operators, unsupported
from edge_runtime.errors import UsageError
from edge_runtime.tflite.versions import LITERT, TFLITE_RUNTIME, Target, parse_target

EDGETPU = "edgetpu"
TARGETS = (EDGETPU, TFLITE_RUNTIME, LITERT)


@dataclass(frozen=True)
class LintReport:
    """Result of checking one file.

    Attributes:
        file: Path of the file.
        target: Name of the target, such as ``edgetpu`` or ``tflite-runtime 2.14.0``.
        passed: True if the target takes every operator.
        share: Share of the operators that the target takes, 0..1.
        verdict: Summary in one sentence.
        minimum_runtime: Lowest TensorFlow Lite release with every operator.
        sizes: Sentences about memory; empty for runtimes.
        findings: Finding of each operator, in the file's order.
    """

    file: str
    target: str
    passed: bool
    share: float
    verdict: str
    minimum_runtime: str
    sizes: tuple[str, ...]
    findings: tuple[Finding, ...]


def check_target(text: str) -> None:
    """Raise UsageError unless ``text`` names a target of `lint`."""
    if text.partition("==")[0] not in TARGETS:
        raise UsageError(f"--target: expected {', '.join(TARGETS)}, got {text!r}")
    if text != EDGETPU:
        parse_target(text)


def lint(path: Path, target: str) -> LintReport:
    """Check one ``.tflite`` file, trusted or not, against a target.

    The target is ``edgetpu``, ``litert``, ``tflite-runtime``, or a release as in ``tflite-runtime==2.11``.

    Raises:
        UsageError: The target is unknown.
        ModelError: The file cannot be read or is not a TFLite model.
    """
    check_target(target)
    model = read_model(path)
    operators = read_operators(model)
    runtime = minimum_runtime(model)
    if target == EDGETPU:
        return _lint_edgetpu(path, operators, runtime)
    return _lint_runtime(path, model, operators, parse_target(target), runtime)


def _share(findings: Sequence[Finding]) -> float:
    """Share of the operators that pass, 0..1; 0 for a model without operators."""
    return sum(finding.ok for finding in findings) / len(findings) if findings else 0.0


def _lint_edgetpu(path: Path, operators: tuple[OperatorFacts, ...], runtime: str) -> LintReport:
    forecasts = edgetpu.forecast(operators)
    findings = tuple(forecast.finding for forecast in forecasts)
    share = _share(findings)
    compiled = edgetpu.is_compiled(operators)
    sizes = () if compiled or not share else (edgetpu.memory(operators, forecasts).text,)
    if compiled:
        left = sum(not finding.ok for finding in findings)
        rest = f"{left} operators were left to the CPU" if left else "nothing was left to the CPU"
        verdict = f"was compiled for the Edge TPU already: {rest}"
    else:
        verdict = _edgetpu_verdict(findings, forecasts)
    return LintReport(str(path), EDGETPU, share == 1, share, verdict, runtime, sizes, findings)


def _edgetpu_verdict(findings: tuple[Finding, ...], forecasts: tuple[edgetpu.Forecast, ...]) -> str:
    share, count = _share(findings), len(findings)
    mapped = sum(finding.ok for finding in findings)
    if not findings:
        return "has no operators: there is nothing to map"
    if not mapped:
        return f"none of {count} operators would map: the Edge TPU would do nothing"
    needs = max(forecast.runtime for forecast in forecasts)
    if share == 1:
        return f"all {count} operators should map to the Edge TPU, runtime {needs} or newer; compile it"
    first = next(f.finding for f in forecasts if not f.finding.ok and f.after is None)
    return (
        f"{mapped} of {count} operators ({share:.0%}) should map to the Edge TPU, the rest run on the CPU; "
        f"first is operator {first.index}, {first.operator}: {first.why}"
    )


def _lint_runtime(
    path: Path, model: Any, operators: tuple[OperatorFacts, ...], target: Target, runtime: str
) -> LintReport:
    missing = {entry.index: entry for entry in unsupported(model, target)}
    findings = []
    for operator in operators:
        entry = missing.get(operator.index)
        about = (operator.index, operator.name, operator.version)
        findings.append(Finding(*about, False, entry.why, entry.remedy) if entry else Finding(*about, True))
    if missing:
        first = next(iter(missing.values()))
        verdict = (
            f"{target} cannot open it: {len(missing)} of {len(findings)} operators are missing there, first operator "
            f"{first.index}, {first.name} version {first.version}"
        )
    else:
        verdict = f"{target} has all {len(findings)} operators"
    share = 1.0 if not findings else _share(findings)
    return LintReport(str(path), str(target), not missing, share, verdict, runtime, (), tuple(findings))
