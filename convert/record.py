"""Conversion record: every measurement of a conversion, stored as ``conversion.json`` and shown in the report."""

from __future__ import annotations

import json
from dataclasses import dataclass

from convert.gate import Comparison, check_fractions
from edge_runtime.contract import Artifact, check_labels
from edge_runtime.strict import from_json, to_mapping

RECORD_FILE = "conversion.json"
RECORD_SCHEMA_VERSION = 1
# Ten variants that flip each of ten thousand images stay below this.
MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class Step:
    """One attempt at an artifact, such as ``nearest rounding`` or ``2 layers kept in float32: ...``.

    Attributes:
        description: Change that was tried.
        accuracy: Accuracy of the resulting artifact, 0..1.
        agreement: Share of images with Keras' answer, 0..1.
        bytes: Size of the file, in bytes.
        latency_ms: Latency as in `VariantRecord`, in milliseconds.
        passed: True if it passed the accuracy gate.
    """

    description: str
    accuracy: float
    agreement: float
    bytes: int
    latency_ms: float
    passed: bool

    def __post_init__(self) -> None:
        check_fractions(accuracy=self.accuracy, agreement=self.agreement)
        _check_not_negative(bytes=self.bytes, latency_ms=self.latency_ms)


@dataclass(frozen=True)
class VariantRecord:
    """One measured artifact, passed or failed.

    Attributes:
        artifact: Entry of the manifest.
        comparison: Comparison with the Keras model.
        latency_ms: Median of single invocations on this machine, one thread, in milliseconds; 0 if not timed.
        steps: Attempts in order; empty for a variant with a single way.
        notes: Sentences for the report.
        lowest_runtimes: Lowest release of each runtime that opens it, such as ``tflite-runtime 2.11.0``.
        float_operators: Number of operators of an integer artifact that compute in float32.
    """

    artifact: Artifact
    comparison: Comparison
    latency_ms: float
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    lowest_runtimes: tuple[str, ...]
    float_operators: int = 0

    def __post_init__(self) -> None:
        _check_not_negative(latency_ms=self.latency_ms, float_operators=self.float_operators)


@dataclass(frozen=True)
class LeftOut:
    """Variant that could not be exported or opened, so that nothing was measured."""

    variant: str
    reason: str


@dataclass(frozen=True)
class CalibrationPoint:
    """Accuracy and agreement of int8, 0..1, for a number of calibration images."""

    images: int
    accuracy: float
    agreement: float

    def __post_init__(self) -> None:
        _check_not_negative(images=self.images)
        check_fractions(accuracy=self.accuracy, agreement=self.agreement)


@dataclass(frozen=True)
class CalibrationRecord:
    """Images that calibrated the integer variants.

    Attributes:
        images: Number of calibration images.
        shared: Number of them that are check images too, in a set without splits; integer figures are then too high.
        method: Method that derived the activation ranges, such as ``min-max``.
        seed: Seed that chose the images.
        sha256: SHA-256 over the list of images.
        per_class: Number of images by label.
        points: Accuracy by number of images; empty if not measured.
    """

    images: int
    shared: int
    method: str
    seed: int
    sha256: str
    per_class: dict[str, int]
    points: tuple[CalibrationPoint, ...]

    def __post_init__(self) -> None:
        _check_not_negative(images=self.images, shared=self.shared)


@dataclass(frozen=True)
class ConversionRecord:
    """Record of one conversion.

    Attributes:
        model_name: Name as in the manifest.
        labels: Labels in output order.
        origin: Description of the converted model.
        split: Name of the check images' split, such as ``validation``.
        check_images: Number of check images.
        max_drop_points: Allowed loss of accuracy, percentage points.
        calibration: Calibration of the integer variants; None if nothing was calibrated.
        variants: Measured artifacts, in the order of the report.
        left_out: Variants that could not be measured.
        machine: Machine of the latency measurement: processor, cores, architecture.
        seconds: Duration of the whole conversion, in seconds.
        settings: Value of each setting by name.
        versions: Versions of the packages that affect the result.
        schema_version: Version of the format, `RECORD_SCHEMA_VERSION`.
    """

    model_name: str
    labels: tuple[str, ...]
    origin: str
    split: str
    check_images: int
    max_drop_points: float
    calibration: CalibrationRecord | None
    variants: tuple[VariantRecord, ...]
    left_out: tuple[LeftOut, ...]
    machine: str
    seconds: float
    settings: dict[str, str]
    versions: dict[str, str]
    schema_version: int = RECORD_SCHEMA_VERSION

    def __post_init__(self) -> None:
        check_labels(self.labels)
        _check_not_negative(check_images=self.check_images, max_drop_points=self.max_drop_points, seconds=self.seconds)
        for record in self.variants:
            for flip in record.comparison.flips:
                if flip.index >= self.check_images:
                    raise ValueError(f"a flip is of image {flip.index}, but {self.check_images} were checked")

    @property
    def passed(self) -> tuple[VariantRecord, ...]:
        """Variants that passed and are in the bundle."""
        return tuple(record for record in self.variants if record.comparison.check.passed)

    @property
    def failed(self) -> tuple[VariantRecord, ...]:
        """Variants that were measured and failed the gate."""
        return tuple(record for record in self.variants if not record.comparison.check.passed)

    def to_json(self) -> str:
        """Serialize to ASCII JSON with a final newline; the same record always gives the same bytes."""
        return json.dumps(to_mapping(self), indent=1, ensure_ascii=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, where: str = RECORD_FILE) -> ConversionRecord:
        """Parse JSON strictly.

        Raises:
            ManifestError: Not JSON, too long, another schema version, or a field unknown, missing or out of range.
        """
        return from_json(
            ConversionRecord, text, where, schema_version=RECORD_SCHEMA_VERSION, max_bytes=MAX_RECORD_BYTES
        )


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be 0 or more, got {value}")
