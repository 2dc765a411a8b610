"""Command line of ``edge-convert``: options of ``run`` and ``lint``, and their output on the terminal."""

from __future__ import annotations

import enum
import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from convert import options as choices
from convert.options import DEFAULT_VARIANTS, ForeignOptions, Options, QuantizeSettings
from edge_runtime.cli_support import note, require_extra, run_cli, say
from edge_runtime.contract import Crop, Variant
from edge_runtime.errors import GateError, ModelError, UsageError
from edge_runtime.platform.process import raise_interrupts
from edge_runtime.strict import to_mapping
from edge_runtime.text import columns, escape, pad

if TYPE_CHECKING:
    from convert.lint.edgetpu import Finding
    from convert.lint.findings import LintReport


_TFLITE_VARIANTS = [variant.value for variant in Variant if variant.suffix == ".tflite"]
_PATH = click.Path(path_type=Path)
_PACKAGES = (
    "tensorflow", "keras", "tf_keras", "h5py", "tf2onnx", "onnx", "onnxruntime", "ai_edge_quantizer", "flatbuffers",
    "matplotlib", "jinja2",
)  # fmt: skip


class _Unsafe(click.Option):
    """Option whose help says what holds a model's code on this machine."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from convert.confinement import describe

        record = super().get_help_record(ctx)
        return record and (record[0], f"{record[1]} {describe()}")


class _OneOf(click.Choice[str]):
    """Choice among the values of an enum; the function gets the member."""

    def __init__(self, kind: type[enum.Enum]) -> None:
        super().__init__([member.value for member in kind])
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return self._kind(super().convert(value, param, ctx))


@click.command(context_settings={"show_default": True})
@click.argument("model", type=_PATH)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=_OneOf(Variant),
    help="Variant to export; repeatable.  [default: all but edgetpu]",
)
@click.option("--out", type=_PATH, help="Bundle to write.  [default: bundles/<model name>]")
@click.option(
    "--calibration",
    metavar="SRC",
    help="Labelled images for calibration and checks instead of the run's own: a folder of class folders, a .zip or "
    "URL of one, a .csv that lists images, or smileys.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    metavar="PP",
    help="Allowed accuracy loss against Keras, in percentage points.",
)
@click.option(
    "--runtime", metavar="NAME==VERSION", help="Runtime that must open TFLite files, such as tflite-runtime==2.14."
)
@click.option(
    "--edgetpu-share",
    type=click.FloatRange(0, 1),
    default=0.9,
    metavar="F",
    help="Minimum share of operators that map to the Edge TPU.",
)
# Calibration, rounding and repair of the integer variants.
@click.option(
    "--calibration-images",
    type=click.IntRange(1),
    default=500,
    metavar="N",
    help="Number of calibration images, stratified by class.",
)
@click.option(
    "--calibration-method",
    "method",
    type=_OneOf(choices.CalibrationMethod),
    default=choices.CalibrationMethod.MIN_MAX.value,
    help="Method for activation ranges.",
)
@click.option("--seed", type=int, metavar="N", help="Seed for choosing calibration images.  [default: the run's, or 0]")
@click.option(
    "--rounding",
    type=_OneOf(choices.Rounding),
    default=choices.Rounding.CALIBRATED.value,
    help="Method for rounding weights.",
)
@click.option(
    "--repair",
    type=_OneOf(choices.Repair),
    default=choices.Repair.AUTO.value,
    help="auto: keep the fewest operators in float32 that let a failing integer variant pass.",
)
@click.option(
    "--repair-seconds",
    type=click.FloatRange(1),
    default=60.0,
    metavar="S",
    help="Time limit for repairing one variant, in seconds.",
)
@click.option(
    "--float-first",
    type=click.IntRange(0),
    default=0,
    show_default=False,
    metavar="N",
    help="Keep the first N operators of int8 in float32; faster on some x86 processors.",
)
# Contract of a model from elsewhere.
@click.option("--labels", type=_PATH, metavar="FILE", help="Label file, one label per line in output order.")
@click.option("--input-range", type=_OneOf(choices.InputRange), help="Pixel range in training.")
@click.option("--crop", type=_OneOf(Crop), help="Crop policy in training.")
@click.option(
    "--crop-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    show_default=False,
    metavar="F",
    help="Share of the centred region to keep.",
)
@click.option("--color", type=_OneOf(choices.ModelColor), help="Channel order in training.  [default: rgb]")
@click.option(
    "--image-size", type=click.IntRange(1), metavar="S", help="Input side in pixels, if the model leaves it open."
)
@click.option(
    "--output",
    type=_OneOf(choices.ModelOutput),
    default=choices.ModelOutput.PROBABILITIES.value,
    help="Values of the last layer; logits get a softmax or sigmoid.",
)
@click.option("--name", help="Model name.  [default: the file's]")
@click.option("--unsafe", is_flag=True, cls=_Unsafe, help="Let code in the model run, such as Lambda layers.")
@click.option("--add", is_flag=True, help="Add to a bundle that exists; its other variants stay.")
@click.option(
    "--overwrite", is_flag=True, help="Replace an existing bundle, or with --add the variants that it holds already."
)
def run(
    model: Path, variants: tuple[Variant, ...], out: Path | None, max_drop: float, runtime: str | None, **others: Any
) -> None:
    """Convert MODEL into a bundle: a run directory, a .keras or .h5 file, or a SavedModel folder.

    A model from elsewhere needs --labels, --input-range, --crop and --calibration.

    Exits with 8 if an export lost more than --max-drop; that export is then left out of the bundle.
    """
    require_extra("edge-convert", "convert", *_PACKAGES)
    from convert.conversion import convert
    from edge_runtime.tflite.versions import has_builtin, parse_target

    # Dynamic range with a scale per output of a dense layer, which came with TensorFlow 2.17.
    old_runtime = runtime is not None and not has_builtin("FULLY_CONNECTED", 12, parse_target(runtime))
    settings = QuantizeSettings(old_runtime=old_runtime, **_taken(others, QuantizeSettings))
    foreign = ForeignOptions(**_taken(others, ForeignOptions))
    variants = tuple(dict.fromkeys(variants)) or DEFAULT_VARIANTS
    options = Options(variants, foreign, settings=settings, max_drop_points=max_drop, runtime=runtime, **others)
    bundle, record = convert(model, out, options, report=note)
    _conclude(bundle, record)


def _taken(values: dict[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Remove the values that are fields of a dataclass, and return them."""
    return {field.name: values.pop(field.name) for field in fields(kind) if field.name in values}


def _conclude(bundle: Path, record: Any) -> None:
    """Print the table, the recommendation and the paths; raise GateError if a variant is not in the bundle."""
    from convert.bundle import REPORT_FILE
    from convert.report.text import recommendation, text_table

    say(text_table(record))
    if record.passed:
        say(f"\n{recommendation(record)}")
        say(f"\nbundle: {bundle}\nreport: {bundle / REPORT_FILE}\nnext:   edge-run classify {bundle} PHOTO")
    failed = [variant.artifact.variant.value for variant in record.failed]
    left_out = [entry.variant for entry in record.left_out]
    if failed or left_out:
        parts = [f"{', '.join(failed)}: lost more than allowed"] if failed else []
        parts += [f"{', '.join(left_out)}: could not be built or run"] if left_out else []
        raise GateError(f"{'; '.join(parts)}; not in the bundle, see the table above")


@click.command()
@click.argument("model", type=_PATH, metavar="MODEL|BUNDLE")
@click.option(
    "--target",
    required=True,
    metavar="edgetpu|tflite-runtime|litert",
    help="Target to check for; a runtime may include its release, such as tflite-runtime==2.11.",
)
@click.option("--variant", type=click.Choice(_TFLITE_VARIANTS), help="Variant of a bundle.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one finding per operator.")
def lint(model: Path, target: str, variant: str | None, as_json: bool) -> None:
    """Check each operator of a .tflite, or of a bundle's .tflite files, for a target.

    For the Edge TPU this is a forecast of its compiler. Exits with 8 if an operator does not suit the target.
    """
    require_extra("edge-convert lint", "convert", "ai_edge_litert", "flatbuffers")
    from convert.lint import findings

    findings.check_target(target)
    reports = [findings.lint(file, target) for file in _files(model, variant)]
    if as_json:
        # ASCII, since a path need not be UTF-8.
        click.echo(json.dumps([to_mapping(report) for report in reports], indent=2))
    else:
        say("\n\n".join(describe(report) for report in reports))
    failed = [Path(report.file).name for report in reports if not report.passed]
    if failed:
        raise GateError(escape(f"{', '.join(failed)}: not every operator suits {reports[0].target}"))


def describe(report: LintReport) -> str:
    """Format a report for the terminal: table, sizes and verdict."""
    lines = [f"{report.file}: {report.target}", "", *_table(report.findings), ""]
    lines += [*report.sizes, f"lowest runtime: {report.minimum_runtime}", report.verdict]
    return "\n".join(escape(line) for line in lines)


def _files(model: Path, variant: str | None) -> list[Path]:
    from edge_runtime.model.bundle import check_artifact, find_model, read_bundle_manifest

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
    """Group operators with equal findings in one row, unsuitable operators first."""
    rows = [("operator", "count", "first", "suits", "why", "remedy")]
    ordered = sorted(findings, key=_group_key)
    groups = [list(group) for _, group in groupby(ordered, key=_group_key)]
    for group in sorted(groups, key=lambda group: (group[0].ok, group[0].index)):
        one = group[0]
        suits = "yes" if one.ok else "NO"
        name = f"{one.operator} v{one.version}"
        rows.append((name, str(len(group)), str(one.index), suits, one.why or "", one.remedy or ""))
    widths = [max(columns(escape(row[place])) for row in rows) for place in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(pad(escape(cell), width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _group_key(finding: Finding) -> tuple[str, int, bool, str, str]:
    return (finding.operator, finding.version, finding.ok, finding.why or "", finding.remedy or "")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Export a trained model, measure the accuracy of each export, and write a bundle."""


cli.add_command(run)
cli.add_command(lint)


def main() -> NoReturn:
    """Run the console script ``edge-convert``."""
    # SIGTERM must remove the work folder as Ctrl-C does.
    raise_interrupts(signal.SIGTERM)
    run_cli(cli)
