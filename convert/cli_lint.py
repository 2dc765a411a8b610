"""``edge-convert lint``: does a model map to the Edge TPU, or open in a runtime."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_runtime.cli_support import note, require_extra
from edge_runtime.contract import Variant
from edge_runtime.errors import GateError, ModelError, UsageError
from edge_runtime.sinks.text import columns, escape, pad
from edge_runtime.strict import to_mapping

if TYPE_CHECKING:
    from convert.lint.findings import Finding, LintReport

_TFLITE_VARIANTS = [variant.value for variant in Variant if variant.suffix == ".tflite"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path), metavar="MODEL|BUNDLE")
@click.option(
    "--target",
    required=True,
    metavar="edgetpu|tflite-runtime|litert",
    help="What is to run it; a runtime may carry its release, such as tflite-runtime==2.11.",
)
@click.option("--variant", type=click.Choice(_TFLITE_VARIANTS), help="One export of a bundle.  [default: each]")
@click.option("--json", "as_json", is_flag=True, help="As JSON, one finding for each operator.")
def lint(model: Path, target: str, variant: str | None, as_json: bool) -> None:
    """Say operator by operator whether a .tflite, or each one of a bundle, suits a target.

    For the Edge TPU it is a forecast of what its compiler will say. Exits with 8 when an operator does not fit.
    """
    require_extra("edge-convert lint", "convert", "ai_edge_litert", "flatbuffers")
    from convert.lint import findings

    findings.check_target(target)
    reports = [findings.lint(file, target) for file in _files(model, variant)]
    if as_json:
        # ASCII, since a path need not be UTF-8.
        click.echo(json.dumps([to_mapping(report) for report in reports], indent=2))
    else:
        click.echo("\n\n".join(describe(report) for report in reports))
    failed = [Path(report.file).name for report in reports if not report.passed]
    if failed:
        raise GateError(escape(f"{', '.join(failed)}: not every operator suits {reports[0].target}"))


def describe(report: LintReport) -> str:
    """The report as lines for a person: a table, sizes, the verdict."""
    lines = [f"{report.file}: {report.target}", "", *_table(report.findings), ""]
    lines += [*report.sizes, f"lowest runtime: {report.minimum_runtime}", report.verdict]
    return "\n".join(escape(line) for line in lines)


def _files(model: Path, variant: str | None) -> list[Path]:
    from edge_runtime.modelfile import check_artifact, find_model, read_bundle_manifest

    if not model.is_dir():
        found = find_model(model, Variant(variant) if variant else None).path
        if found.suffix != ".tflite":
            raise ModelError(f"{model}: expected a .tflite file or a bundle; lint does not read ONNX")
        return [found]
    artifacts = read_bundle_manifest(model).artifacts
    chosen = [artifact for artifact in artifacts if artifact.variant.value == variant or variant is None]
    files = [check_artifact(model, artifact) for artifact in chosen if artifact.file.endswith(".tflite")]
    if not files:
        held = ", ".join(artifact.variant.value for artifact in artifacts) or "nothing"
        raise UsageError(f"{model}: has no {variant or '.tflite'} to lint; it holds {held}")
    if len(files) < len(chosen):
        note("left out the .onnx files, which lint does not read")
    return files


def _table(findings: Sequence[Finding]) -> Iterator[str]:
    """Operators of the same fate as one row, those that need something done first in each."""
    rows = [("operator", "count", "first", "suits", "why", "remedy")]
    ordered = sorted(findings, key=_fate)
    groups = [list(group) for _, group in groupby(ordered, key=_fate)]
    for group in sorted(groups, key=lambda group: (group[0].ok, group[0].index)):
        one = group[0]
        suits = "yes" if one.ok else "NO"
        name = f"{one.operator} v{one.version}"
        rows.append((name, str(len(group)), str(one.index), suits, one.why or "", one.remedy or ""))
    widths = [max(columns(escape(row[place])) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(pad(escape(cell), width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _fate(finding: Finding) -> tuple[str, int, bool, str, str]:
    return (finding.operator, finding.version, finding.ok, finding.why or "", finding.remedy or "")
