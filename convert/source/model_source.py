"""Identify the model to convert: a run directory, a ``.keras`` or ``.h5`` file, or a SavedModel folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from convert.options import (
    ForeignOptions,
    InputRange,
    Loader,
    ModelColor,
    ModelFacts,
    ModelOutput,
    check_label_count,
    model_name,
    read_labels,
    refuse_foreign_options,
    require_options,
)
from convert.source.keras_file import HDF5_SIGNATURE, MAX_MODEL_BYTES, inspect_archive, inspect_hdf5
from convert.source.saved_model import GRAPH_FILE, inspect_saved_model
from edge_runtime.contract import MANIFEST_FILE, MAX_SIDE_PX, Crop, Head, InputSpec, Manifest, OutputSpec
from edge_runtime.errors import CompatibilityError, ModelError, UsageError
from edge_runtime.model.bundle import read_bundle_manifest

MODEL_FILE = "model.keras"

_T = TypeVar("_T")
_SIGMOID_THRESHOLD = 0.5
# A model that divides pixels by 100 or more expects 0..255.
_SCALES_BYTES = 0.01
_WANTED = "expected a run directory (model.keras and manifest.json), a .keras or .h5 file, or a SavedModel folder"
_OTHER_FILES = (
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"\x89PNG", "a PNG image"),
    (4, b"TFL3", "a TFLite model, which is converted already (run it with edge-run, check it with edge-convert lint)"),
    (0, b"TFL3", "a TFLite model"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it"),
)


@dataclass(frozen=True)
class ModelSource:
    """Model to convert, with the contract that its exports follow.

    Attributes:
        path: Path of the model file or SavedModel folder.
        loader: Library that loads the model.
        manifest: Manifest of the run, or assembled from the options.
        input_range: Pixel range that the model expects.
        color: Channel order that the model expects.
        output: Kind of values that the model's last layer gives.
        unsafe: True to run code inside the file.
        origin: One line for the report: file, library, and values given by option.
    """

    path: Path
    loader: Loader
    manifest: Manifest
    input_range: InputRange
    color: ModelColor
    output: ModelOutput
    unsafe: bool
    origin: str


def read_model(path: Path, options: ForeignOptions, *, has_calibration: bool = True) -> ModelSource:
    """Inspect a model without loading it, and complete its contract.

    Args:
        path: Run directory, ``.keras`` or ``.h5`` file, or SavedModel folder; recognized by content.
        options: Options of the command line.
        has_calibration: True if ``--calibration`` was given, which a model from elsewhere needs.

    Raises:
        ModelError: Not a model, a damaged or dangerous one, or not an image classifier with one input and one output.
        CompatibilityError: The labels do not match the outputs.
        UsageError: An option is missing, or does not apply to the model.
    """
    if (path / MODEL_FILE).is_file():
        return _read_run(path, options)
    facts = _inspect(path, unsafe=options.unsafe)
    color = options.color or ModelColor.RGB
    _check_input(facts, color, path)
    require_options(options, path, has_calibration=has_calibration, own_scaling=facts.own_scaling)
    _check_scaling(facts, options, path)
    labels = read_labels(_given(options.labels))
    check_label_count(labels, facts.output_width, path)
    return ModelSource(
        path=path,
        loader=facts.loader,
        manifest=_foreign_manifest(path, facts, options, labels),
        input_range=_given(options.input_range),
        color=color,
        output=options.output,
        unsafe=options.unsafe,
        origin=_describe(path, facts, options),
    )


def _read_run(run: Path, options: ForeignOptions) -> ModelSource:
    refuse_foreign_options(options, run)
    manifest = read_bundle_manifest(run)
    facts = inspect_archive(run / MODEL_FILE, unsafe=options.unsafe)
    size = (manifest.input.height, manifest.input.width)
    count = len(manifest.labels)
    width, wrong = manifest.output.width(count), ""
    if facts.input_shape and facts.input_shape[1:3] not in (size, (None, None)):
        wrong = f"an input of {size[0]}x{size[1]} as in {MANIFEST_FILE}, got {_show(facts.input_shape)}"
    elif facts.output_width not in (None, width):
        wrong = f"{width} outputs for the {count} labels of {MANIFEST_FILE}, got {facts.output_width}"
    if wrong:
        raise CompatibilityError(f"{run / MODEL_FILE}: expected {wrong}; train again or restore the file")
    return ModelSource(
        path=run / MODEL_FILE,
        loader=facts.loader,
        manifest=manifest,
        input_range=InputRange.BYTE,
        color=ModelColor.RGB,
        output=ModelOutput.PROBABILITIES,
        unsafe=options.unsafe,
        origin=f"the run directory {run.resolve().name} ({facts.shown})",
    )


def _inspect(path: Path, *, unsafe: bool) -> ModelFacts:
    if path.is_dir():
        if (path / GRAPH_FILE).is_file():
            return inspect_saved_model(path, unsafe=unsafe)
        raise ModelError(f"{path}: {_WANTED}; this folder holds neither {MODEL_FILE} nor {GRAPH_FILE}")
    try:
        if not path.is_file():
            raise ModelError(f"{path}: no such file or folder; {_WANTED}")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); {_WANTED}") from error
    if size > MAX_MODEL_BYTES:
        raise ModelError(f"{path}: expected a model of at most {MAX_MODEL_BYTES >> 30} GiB, got {size / 2**30:.1f} GiB")
    if start.startswith(b"PK"):
        return inspect_archive(path, unsafe=unsafe)
    if start.startswith(HDF5_SIGNATURE):
        return inspect_hdf5(path, unsafe=unsafe)
    raise ModelError(f"{path}: {_WANTED}, got {_kind(path, start)}")


def _kind(path: Path, start: bytes) -> str:
    for position, signature, kind in _OTHER_FILES:
        if start[position:].startswith(signature):
            return kind
    if not start:
        return "an empty file"
    if path.name == GRAPH_FILE:
        return "the graph of a SavedModel alone; give the folder that holds it"
    if path.suffix.lower() == ".onnx":
        return "an ONNX model, which is converted already"
    return "a text file" if start.isascii() and b"\0" not in start else "a file of another kind"


def _check_input(facts: ModelFacts, color: ModelColor, path: Path) -> None:
    """Check the known part of the input shape; the rest is checked when the model is loaded."""
    shape = facts.input_shape
    if shape is None:
        return
    if len(shape) != 4:
        raise ModelError(
            f"{path}: expected a model of images, with an input [batch, height, width, channels], got {_show(shape)}"
        )
    channels = shape[3]
    if shape[1] in (1, 3) and channels not in (1, 3):
        raise ModelError(
            f"{path}: expected channels last, [batch, height, width, channels], got channels first in "
            f"{_show(shape)}; save the model with data_format='channels_last'"
        )
    wanted = 1 if color is ModelColor.GRAY else 3
    if channels not in (None, wanted):
        remedy = {1: "; use --color gray", 3: "; --color gray is for one channel"}.get(channels or 0, "")
        raise CompatibilityError(
            f"{path}: expected a last axis of {wanted} for --color {color.value}, got {_show(shape)}{remedy}"
        )
    if shape[0] is not None:
        raise ModelError(
            f"{path}: expected an open batch size, got {_show(shape)}; save the model without a fixed batch size"
        )


def _check_scaling(facts: ModelFacts, options: ForeignOptions, path: Path) -> None:
    scaling = facts.own_scaling
    if scaling is None or options.input_range is InputRange.BYTE or abs(scaling) > _SCALES_BYTES:
        return
    raise UsageError(
        f"--input-range {_given(options.input_range).value}: the first layer of {path} scales by {scaling:.4g} itself, "
        "so its input is 0,255; use --input-range 0,255"
    )


def _foreign_manifest(path: Path, facts: ModelFacts, options: ForeignOptions, labels: tuple[str, ...]) -> Manifest:
    height, width = _input_size(facts, options, path)
    # Two labels and one output is a sigmoid; an unknown width is checked when the model is loaded.
    head = Head.SIGMOID if facts.output_width == 1 else Head.SOFTMAX
    try:
        spec = InputSpec(height, width, options.crop or Crop.CENTER, options.crop_fraction)
        output = OutputSpec(head, _SIGMOID_THRESHOLD if head is Head.SIGMOID else 0.0)
        return Manifest(options.name or model_name(path), labels, spec, output, training=None)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error


def _input_size(facts: ModelFacts, options: ForeignOptions, path: Path) -> tuple[int, int]:
    height, width = (facts.input_shape or (None,) * 4)[1:3]
    side = options.image_size
    if side is None and (height is None or width is None):
        raise UsageError(
            f"{path}: its input size is open ({_show(facts.input_shape)}); add --image-size, 1 to {MAX_SIDE_PX} pixels"
        )
    if side is not None and (height not in (None, side) or width not in (None, side)):
        raise UsageError(f"--image-size {side}: {path} takes {_show(facts.input_shape)}; remove the option")
    return height or side or 0, width or side or 0


def _describe(path: Path, facts: ModelFacts, options: ForeignOptions) -> str:
    scaling = "" if facts.own_scaling is None else f" (its first layer scales by {facts.own_scaling:.4g})"
    crop = _given(options.crop).value + (f" {options.crop_fraction:g}" if options.crop_fraction != 1.0 else "")
    color = options.color.value if options.color else "rgb (not given, so assumed)"
    return (
        f"{path.name}, {facts.shown}, loaded by {facts.loader.value}; given by option: labels "
        f"{_given(options.labels).name}, input range {_given(options.input_range).value}{scaling}, crop {crop}, color "
        f"{color}, output {options.output.value}{', unsafe' if options.unsafe else ''}"
    )


def _show(shape: tuple[int | None, ...] | None) -> str:
    sizes = ("?" if size is None else str(size) for size in shape or ())
    return f"[{', '.join(sizes)}]" if shape is not None else "no shape"


def _given(value: _T | None) -> _T:
    if value is None:
        raise UsageError("an option that a model from elsewhere needs was not given")
    return value
