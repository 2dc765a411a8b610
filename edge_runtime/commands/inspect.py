"""Body of ``edge-run inspect``: an `Inspection` as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator

import click

from edge_runtime.commands.model_choice import ModelChoice
from edge_runtime.contract import Check, Head, Manifest, TensorSpec, TrainingSummary, Variant
from edge_runtime.inspection import FileReport, Inspection, inspect_bundle, inspect_file
from edge_runtime.sinks.text import escape
from edge_runtime.strict import to_mapping

_LABELS_SHOWN = 20


def run_inspect(choice: ModelChoice, *, as_json: bool) -> int:
    """Print what a model or bundle is, and give the exit code: 0, or 4 or 5 where a file cannot be used.

    Raises:
        ModelError: Not a model or bundle.
    """
    if choice.model.is_dir():
        inspection = inspect_bundle(choice.model, Variant(choice.variant) if choice.variant else None)
    else:
        inspection = inspect_file(choice.find(), choice.engine)
    if as_json:
        # ASCII, since a path need not be UTF-8.
        click.echo(json.dumps(to_mapping(inspection), indent=2))
    else:
        for line in describe(inspection):
            click.echo(escape(line))
    return inspection.exit_code


def describe(inspection: Inspection) -> Iterator[str]:
    """Lines for a person."""
    yield f"{inspection.path}: {inspection.kind}"
    if inspection.manifest:
        yield from _manifest_lines(inspection.manifest)
    for file in inspection.files:
        yield ""
        yield from _file_lines(file)
    if inspection.read:
        yield ""
        yield "known about it:"
        yield from (f"  {sentence}" for sentence in inspection.read)
    if inspection.kind == "run directory":
        yield ""
        yield "not exported yet: run edge-convert run on it"
    if inspection.to_be_said:
        yield ""
        yield "carries no manifest; to run it, say:"
        yield from (f"  {option}" for option in inspection.to_be_said)


def _manifest_lines(manifest: Manifest) -> Iterator[str]:
    shown = ", ".join(manifest.labels[:_LABELS_SHOWN])
    more = len(manifest.labels) - _LABELS_SHOWN
    spec, output = manifest.input, manifest.output
    crop = f"{spec.crop.value} crop" + (f" {spec.crop_fraction:g}" if spec.crop_fraction != 1 else "")
    yield f"  model     {manifest.model_name}"
    yield f"  labels    {len(manifest.labels)}: {shown}" + (f", and {more} more" if more > 0 else "")
    yield f"  input     {spec.width} x {spec.height} px, {spec.color.value.upper()}, {crop}, resize {spec.resize.value}"
    decision = f", decision threshold {output.decision_threshold:g}" if output.head is Head.SIGMOID else ""
    reject = f", reject under {output.reject_threshold:g}" if output.reject_threshold else ""
    yield f"  output    {output.head.value}{decision}{reject}"
    if manifest.training:
        yield from _training_lines(manifest.training)


def _training_lines(training: TrainingSummary) -> Iterator[str]:
    splits = ", ".join(f"{count} {split}" for split, count in training.images_per_split.items())
    yield f"  trained   recipe {training.recipe}, weights {training.weights}, seed {training.seed}, {training.backend}"
    yield f"  data      {training.data_name}: {splits} pictures, SHA-256 {training.data_sha256[:12]}…"
    for name, value in training.metrics.items():
        yield f"  metric    {name} {value:.4g}"


def _file_lines(file: FileReport) -> Iterator[str]:
    variant = (
        f" ({file.variant.value}{', the default on this device' if file.is_default else ''})" if file.variant else ""
    )
    yield f"{file.file}{variant}"
    yield (
        f"  size      {file.bytes / 1e6:.2f} MB" if file.bytes >= 100_000 else f"  size      {file.bytes / 1e3:.1f} kB"
    )
    yield f"  sha256    {file.sha256}"
    yield f"  integrity {file.integrity}"
    if file.problem:
        yield f"  PROBLEM   {file.problem}"
    if file.input:
        # A scale and zero point beside pixels invite one to quantize them, which nobody has to.
        pixels = ", RGB pixels 0 to 255 as they are" if file.input.dtype == "uint8" else ""
        yield f"  takes     {_tensor_text(file.input)}{pixels}"
    if file.output:
        yield f"  gives     {_tensor_text(file.output)}"
    if file.minimum_runtime:
        yield f"  needs     {file.minimum_runtime} or newer"
    if file.variant:
        yield f"  checked   {_check_text(file.check)}"


def _tensor_text(tensor: TensorSpec) -> str:
    shape = ", ".join(str(side) for side in tensor.shape)
    scale = f", scale {tensor.scale:.6g}, zero point {tensor.zero_point}" if tensor.scale else ""
    return f"{tensor.dtype} [{shape}]{scale}, named {tensor.name}"


def _check_text(check: Check | None) -> str:
    if check is None:
        return "never"
    return (
        f"{'passed' if check.passed else 'FAILED'} on {check.images} {check.split} pictures with {check.engine}: "
        f"accuracy {check.accuracy:.1%} (Keras {check.keras_accuracy:.1%}, may lose {check.max_drop_points:g} points), "
        f"agreement {check.agreement:.1%}, largest probability difference {check.max_probability_difference:.2g}"
    )
