"""Command ``edge-run inspect``: describe a model or bundle as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from edge_runtime.cli_support import say
from edge_runtime.commands.options import ModelChoice
from edge_runtime.contract import Artifact, Check, Head, Manifest, TensorSpec, TrainingSummary, Variant
from edge_runtime.errors import CompatibilityError, EdgeKitError, EngineError, IntegrityError
from edge_runtime.model.bundle import ModelFile, check_artifact, file_sha256, find_model, read_bundle_manifest
from edge_runtime.strict import to_mapping
from edge_runtime.text import escape
from edge_runtime.tflite.versions import minimum_runtime

_FILE_LABELS_SHOWN = 3


@dataclass(frozen=True)
class FileReport:
    """Description of one model file.

    Attributes:
        file: Name of the file.
        variant: Variant of the bundle; None for a single file.
        bytes: Size of the file in bytes, from the manifest if there is one.
        sha256: SHA-256 of the file, from the manifest if there is one.
        integrity: ``intact`` or ``altered`` against a recorded SHA-256; ``unknown`` if none is recorded.
        problem: Reason why it cannot be used here, or None.
        problem_exit_code: Exit code of that problem, 0 without one.
        input: Input tensor, or None if it cannot be read here.
        output: Output tensor, or None if it cannot be read here.
        minimum_runtime: Lowest runtime version that opens it; None if unknown.
        check: Measurements at its conversion; None if it was not measured.
        is_default: True if this device takes it when no variant is named.
    """

    file: str
    variant: Variant | None
    bytes: int
    sha256: str
    integrity: str
    problem: str | None
    problem_exit_code: int
    input: TensorSpec | None
    output: TensorSpec | None
    minimum_runtime: str | None
    check: Check | None
    is_default: bool


@dataclass(frozen=True)
class Inspection:
    """Description of a model or bundle.

    Attributes:
        path: Path from the command line.
        kind: ``bundle``, ``run directory`` (trained, not exported), ``file`` (with a manifest) or ``foreign file``.
        manifest: Manifest with the contract; None for a foreign file.
        files: Descriptions of its model files.
        to_be_said: For a foreign file, the options that it needs to run.
        read: For a foreign file, known facts and their origin, one sentence each.
    """

    path: str
    kind: str
    manifest: Manifest | None
    files: tuple[FileReport, ...]
    to_be_said: tuple[str, ...]
    read: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or the exit code of the first file with a problem."""
        return next((file.problem_exit_code for file in self.files if file.problem), 0)


def inspect_bundle(bundle: Path, variant: Variant | None) -> Inspection:
    """Describe every artifact of a bundle, or one.

    Raises:
        ModelError: Not a bundle, or a manifest that does not follow the schema.
    """
    manifest = read_bundle_manifest(bundle)
    if variant is not None:
        find_model(bundle, variant)  # refuses a missing or altered variant
    default = _default_variant(bundle)
    chosen = [artifact for artifact in manifest.artifacts if variant in (None, artifact.variant)]
    files = tuple(_artifact_report(bundle, artifact, is_default=artifact.variant is default) for artifact in chosen)
    kind = "bundle" if manifest.artifacts else "run directory"
    return Inspection(str(bundle), kind, manifest, files, ())


def inspect_file(model: ModelFile, engine_name: str) -> Inspection:
    """Describe one model file by opening it; one that has not passed the sandbox runs there first.

    Raises:
        IntegrityError: The file is damaged.
    """
    from edge_runtime.model.bundle import missing_options, open_model

    engine, problem, code = None, None, 0
    try:
        engine = open_model(model, engine_name).engine
    except (EngineError, CompatibilityError) as error:
        problem, code = _without_path(error, model.path), error.exit_code
    tensors = model.structure
    report = FileReport(
        file=model.path.name,
        variant=None,
        bytes=model.path.stat().st_size,
        sha256=file_sha256(model.path),
        # find_model has compared the FlatBuffer with the checksum that an exported .tflite carries.
        integrity="intact" if model.manifest and model.path.suffix == ".tflite" else "unknown",
        problem=problem,
        problem_exit_code=code,
        # If no runtime here can open it, the tensors of the file itself describe it.
        input=engine.input if engine else tensors.inputs[0] if tensors and tensors.inputs else None,
        output=engine.output if engine else tensors.outputs[0] if tensors and tensors.outputs else None,
        minimum_runtime=minimum_runtime(tensors.codes) if tensors else None,
        check=None,
        is_default=False,
    )
    kind = "file" if model.manifest else "foreign file"
    return Inspection(str(model.path), kind, model.manifest, (report,), missing_options(model, engine), _read(model))


def _read(model: ModelFile) -> tuple[str, ...]:
    """List the known facts about a model without a manifest, and their origin."""
    if model.manifest:
        return ()
    said, inside, found = model.options, model.metadata, []
    if model.labels:
        where = "--labels" if said.labels else f"{inside.labels_file} inside the file"
        found.append(f"{len(model.labels)} labels from {where}: {_shown(model.labels)}")
    if model.input_ranges:
        ranges = "; ".join(f"{low:g} to {high:g}" for low, high in model.input_ranges)
        where = "--input-range" if said.input_range else "the normalization in the file's metadata"
        untouched = model.structure and model.structure.inputs and model.structure.inputs[0].dtype == "uint8"
        found.append(f"pixels stand for {ranges}, from {where}" + (", and are passed unchanged" if untouched else ""))
    if said.crop:
        found.append(f"crop {said.crop.value}, from --crop")
    return tuple(found)


def _artifact_report(bundle: Path, artifact: Artifact, *, is_default: bool) -> FileReport:
    problem, code = None, 0
    try:
        check_artifact(bundle, artifact)
    except IntegrityError as error:
        problem, code = _without_path(error, bundle / artifact.file), error.exit_code
    return FileReport(
        file=artifact.file,
        variant=artifact.variant,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        integrity="altered" if problem else "intact",
        problem=problem,
        problem_exit_code=code,
        input=artifact.input,
        output=artifact.output,
        minimum_runtime=artifact.minimum_runtime,
        check=artifact.check,
        is_default=is_default,
    )


def _default_variant(bundle: Path) -> Variant | None:
    try:
        artifact = find_model(bundle).artifact
    except EdgeKitError:
        return None  # none passed its check, or the default was altered
    return artifact.variant if artifact else None


def _without_path(error: EdgeKitError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _shown(labels: tuple[str, ...]) -> str:
    more = len(labels) - _FILE_LABELS_SHOWN
    return "; ".join(labels[:_FILE_LABELS_SHOWN]) + (f"; and {more} more" if more > 0 else "")


_LABELS_SHOWN = 20


def run_inspect(choice: ModelChoice, *, as_json: bool) -> int:
    """Print the description and return the exit code: 0, or 4 or 5 if a file cannot be used.

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
            say(escape(line))
    return inspection.exit_code


def describe(inspection: Inspection) -> Iterator[str]:
    """Yield the lines of the text for a person."""
    yield f"{inspection.path}: {inspection.kind}"
    if inspection.manifest:
        yield from _manifest_lines(inspection.manifest)
    for file in inspection.files:
        yield ""
        yield from _file_lines(file)
    if inspection.read:
        yield ""
        yield "known facts:"
        yield from (f"  {sentence}" for sentence in inspection.read)
    if inspection.kind == "run directory":
        yield ""
        yield "not exported yet: run edge-convert run on it"
    if inspection.to_be_said:
        yield ""
        yield "carries no manifest; to run it, add:"
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
    yield f"  data      {training.data_name}: {splits} images, SHA-256 {training.data_sha256[:12]}…"
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
        # Pixels need no quantization, although the tensor has a scale and zero point.
        pixels = ", RGB pixels 0 to 255 unchanged" if file.input.dtype == "uint8" else ""
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
        f"{'passed' if check.passed else 'FAILED'} on {check.images} {check.split} images with {check.engine}: "
        f"accuracy {check.accuracy:.1%} (Keras {check.keras_accuracy:.1%}, may lose {check.max_drop_points:g} points), "
        f"agreement {check.agreement:.1%}, largest probability difference {check.max_probability_difference:.2g}"
    )
