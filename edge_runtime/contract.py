"""The contract between training, conversion and the device: manifest, input and output specs, artifacts, labels.

A manifest describes the input, the output and the measurements of a model. The producers write it, and every reader
parses it strictly. This module uses the standard library only.

Every artifact that edgekit exports takes ``uint8 [1, H, W, 3]`` RGB pixels 0..255 and gives class probabilities
``[1, N]``, or ``[1, 1]`` for a sigmoid head. What is left outside the graph is geometry, described by `InputSpec`
and carried out by `edge_runtime.preprocess` alone.
"""

from __future__ import annotations

import enum
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from edge_runtime.errors import shorten
from edge_runtime.strict import from_json, to_mapping

SCHEMA_VERSION = 2
MAX_MANIFEST_BYTES = 4 << 20
MAX_SIDE_PX = 4096
MAX_LABEL_CHARACTERS = 256
_MAX_NAME_BYTES = 255

MANIFEST_FILE = "manifest.json"
LABELS_FILE = "labels.txt"
GOLDEN_FILE = "golden.npz"

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# The zero-width (non-)joiner: part of ordinary Persian words and of many emoji, though Python calls it unprintable.
_JOINERS = str.maketrans("", "", "\u200c\u200d")


class ColorOrder(str, enum.Enum):
    """Order of the three channels of an image."""

    RGB = "rgb"


class Crop(str, enum.Enum):
    """Treatment of an image whose aspect ratio is not the model's."""

    CENTER = "center"  # the largest centred region of the model's aspect ratio, times crop_fraction
    STRETCH = "stretch"  # the whole image, aspect ratio not kept
    LETTERBOX = "letterbox"  # the whole image, grey bars added


class Resize(str, enum.Enum):
    """Scaling method; a single one, because the result must be bit-identical on every machine."""

    AREA_THEN_LINEAR_EXACT = "area-then-linear-exact"


class Head(str, enum.Enum):
    """Kind of the last layer."""

    SOFTMAX = "softmax"  # one probability a label
    SIGMOID = "sigmoid"  # one neuron: the probability of the second label


class Variant(str, enum.Enum):
    """Exports of a model, named as on the command line and in file names."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    DYNAMIC = "dynamic"
    INT8 = "int8"
    INT8_PER_TENSOR = "int8-per-tensor"
    INT16X8 = "int16x8"
    ONNX_FLOAT32 = "onnx-float32"
    ONNX_INT8 = "onnx-int8"
    EDGETPU = "edgetpu"

    @property
    def suffix(self) -> str:
        """File name suffix, ``.onnx`` or ``.tflite``."""
        return ".onnx" if self.value.startswith("onnx") else ".tflite"

    def file_name(self, model_name: str) -> str:
        """File name of this variant of a model, such as ``cats-int8.tflite``."""
        return f"{model_name}-{self.value}{self.suffix}"


@dataclass(frozen=True)
class InputSpec:
    """Geometry that turns any image into the model's input ``uint8 [1, height, width, 3]``.

    Attributes:
        height, width: Rows and columns of the model's input, in pixels, 1..4096.
        crop: Treatment of an image of another aspect ratio.
        crop_fraction: Share of the centred region that is kept, in (0, 1]; only with ``Crop.CENTER``.
        resize, color: Scaling method, and channel order of the input.
    """

    height: int
    width: int
    crop: Crop = Crop.CENTER
    crop_fraction: float = 1.0
    resize: Resize = Resize.AREA_THEN_LINEAR_EXACT
    color: ColorOrder = ColorOrder.RGB

    def __post_init__(self) -> None:
        for name, value in (("height", self.height), ("width", self.width)):
            if not 1 <= value <= MAX_SIDE_PX:
                raise ValueError(f"{name} must be 1 to {MAX_SIDE_PX} pixels, got {value}")
        if not 0.0 < self.crop_fraction <= 1.0:
            raise ValueError(f"crop_fraction must be above 0 and at most 1, got {self.crop_fraction}")
        if self.crop is not Crop.CENTER and self.crop_fraction != 1.0:
            raise ValueError(f"crop_fraction goes with crop center only, got it with {self.crop.value}")

    @property
    def shape_hwc(self) -> tuple[int, int, int]:
        """Shape of one prepared image."""
        return (self.height, self.width, 3)


@dataclass(frozen=True)
class OutputSpec:
    """Meaning of the model's output.

    Attributes:
        head: Softmax over all labels, or one sigmoid neuron for two labels.
        decision_threshold: For a sigmoid head, the probability of the second label from which it is the answer;
            0 for a softmax head, whose answer is the largest probability.
        reject_threshold: Score of an answer below which the image may be none of the classes, 0..1; 0 rejects none.
    """

    head: Head
    decision_threshold: float
    reject_threshold: float = 0.0

    def __post_init__(self) -> None:
        for name in ("decision_threshold", "reject_threshold"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} must be 0 to 1, got {getattr(self, name)}")

    def width(self, label_count: int) -> int:
        """Number of output values for a number of labels."""
        return 1 if self.head is Head.SIGMOID else label_count


@dataclass(frozen=True)
class TrainingSummary:
    """Origin of the model.

    Attributes:
        recipe: Name of the recipe.
        weights: Initial weights: ``none``, ``imagenet`` or the name of a weight file.
        backend: Keras backend and version, such as ``tensorflow 2.21.0``.
        seed: Seed of split, initialisation and shuffling.
        data_name: Name of the data set.
        data_sha256: Hash over the sorted hashes, labels and splits of all images.
        images_per_split: Number of images used, by split.
        metrics: Figures such as ``test_accuracy``, as fractions 0..1.
    """

    recipe: str
    weights: str
    backend: str
    seed: int
    data_name: str
    data_sha256: str
    images_per_split: dict[str, int]
    metrics: dict[str, float]


@dataclass(frozen=True)
class TensorSpec:
    """A model's input or output tensor: ``dtype`` by numpy's name, ``shape`` with 1 for an open batch.

    A real value is ``scale * (quantized - zero_point)``; ``scale`` is 0 where the tensor is not quantized.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Check:
    """Measurement of an artifact against Keras, in a process without TensorFlow.

    Attributes:
        engine: Runtime and version, such as ``litert 2.3.0``.
        split: Split of the images, such as ``validation``.
        images: Number of images measured.
        accuracy: Top-1 of the artifact, 0..1.
        keras_accuracy: Top-1 of the Keras model on the same images, 0..1.
        agreement: Share of images with the same top-1 as Keras, 0..1.
        max_probability_difference: Largest absolute difference of one probability, 0..1.
        golden_max_difference: Largest such difference over the bundle's golden inputs, 0..1.
        max_drop_points: Allowed loss of accuracy, in percentage points.
        passed: True if the loss stayed within it.
    """

    engine: str
    split: str
    images: int
    accuracy: float
    keras_accuracy: float
    agreement: float
    max_probability_difference: float
    golden_max_difference: float
    max_drop_points: float
    passed: bool


@dataclass(frozen=True)
class Artifact:
    """One exported model file.

    Attributes:
        variant: Variant of the export.
        file: Plain file name inside the bundle.
        sha256: SHA-256 of the whole file, 64 hex digits.
        bytes: Size of the whole file, in bytes.
        input: Input tensor of the model.
        output: Output tensor of the model.
        minimum_runtime: Lowest runtime that opens it, such as ``tflite 2.4.0`` or ``onnx opset 18``.
        check: Measurement against Keras, or None if the file was not measured.
    """

    variant: Variant
    file: str
    sha256: str
    bytes: int
    input: TensorSpec
    output: TensorSpec
    minimum_runtime: str
    check: Check | None

    def __post_init__(self) -> None:
        is_plain = PurePosixPath(self.file).name == self.file and self.file not in ("", ".", "..")
        if (
            not is_plain
            or "\\" in self.file
            or not self.file.isprintable()
            or len(self.file.encode()) > _MAX_NAME_BYTES
        ):
            raise ValueError(f"artifact file must be a plain file name, got {shorten(repr(self.file), 80)}")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 must be 64 lower-case hex digits, got {self.sha256!r}")


@dataclass(frozen=True)
class Manifest:
    """Contract of one model.

    Attributes:
        model_name: Letters, digits, ``.``, ``_`` and ``-``; the stem of the artifacts' file names.
        labels: Labels in the order of the outputs.
        input: Geometry of the input.
        output: Meaning of the output.
        training: Summary of the training, or None for a model of others.
        artifacts: Files of a bundle; empty in a run directory and inside an artifact.
        schema_version: Version of the schema, `SCHEMA_VERSION`.
    """

    model_name: str
    labels: tuple[str, ...]
    input: InputSpec
    output: OutputSpec
    training: TrainingSummary | None
    artifacts: tuple[Artifact, ...] = field(default=())
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if not _MODEL_NAME.fullmatch(self.model_name):
            raise ValueError(f"model_name must be up to 64 letters, digits, '.', '_' or '-', got {self.model_name!r}")
        check_labels(self.labels)
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must differ from one another")
        if self.output.head is Head.SIGMOID and len(self.labels) != 2:
            raise ValueError(f"a sigmoid head has two labels, got {len(self.labels)}")

    def without_artifacts(self) -> Manifest:
        """Copy for embedding in an artifact, which cannot hold its own hash."""
        return replace(self, artifacts=())

    def to_json(self) -> str:
        """JSON text with a final newline; the same manifest gives the same bytes."""
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, where: str = "manifest") -> Manifest:
        """Parse JSON text strictly.

        Raises:
            ManifestError: Not JSON, another schema version, or a field unknown, missing or out of range.
        """
        return from_json(Manifest, text, where, schema_version=SCHEMA_VERSION, max_bytes=MAX_MANIFEST_BYTES)


def check_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless there are at least two labels, each one printable line of text."""
    if len(labels) < 2:
        raise ValueError(f"expected at least two labels, got {len(labels)}")
    for index, label in enumerate(labels):
        if not label.strip() or not label.translate(_JOINERS).isprintable():
            raise ValueError(f"label {index} must be one printable line of text, got {shorten(repr(label))}")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise ValueError(
                f"label {index} must have at most {MAX_LABEL_CHARACTERS} characters, got {len(label)}: "
                f"{shorten(repr(label))}"
            )


def check_class_names(labels: Sequence[str]) -> None:
    """Check labels of a set of images; beyond `check_labels`, people and file systems must not confuse two of them."""
    check_labels(labels)
    for label in labels:
        if label != label.strip():
            raise ValueError(f"label {label!r} begins or ends with a space")
    clash = find_clash(labels)
    if clash:
        raise ValueError(f"labels {clash[0]!a} and {clash[1]!a} look alike, differing in case or encoding only")


def normalize_label(text: str) -> str:
    """Normalize to Unicode NFC, so that a folder named on a Mac (NFD) is the same class as one named elsewhere."""
    return unicodedata.normalize("NFC", text)


def look_alike_key(text: str) -> str:
    """Key that is equal for names that differ only in case, Unicode normalization or invisible joiners."""
    return normalize_label(text.translate(_JOINERS).lower())


def find_clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Find two different names with the same `look_alike_key`, or None."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(look_alike_key(name), name)
        if other != name:
            return other, name
    return None


def labels_to_text(labels: Sequence[str]) -> str:
    """Write one label a line, each line ended."""
    return "".join(f"{label}\n" for label in labels)


def labels_from_text(text: str) -> tuple[str, ...]:
    """Inverse of `labels_to_text`; the final newline adds no label."""
    return tuple(text.removesuffix("\n").split("\n"))
