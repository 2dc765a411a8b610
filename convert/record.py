"""Conversion record: every measurement of a conversion, stored as ``conversion.json`` and shown in the report."""

from __future__ import annotations

import json
from dataclasses import dataclass

from convert.gate import Comparison, check_fractions
from edge_runtime.contract import Artifact
from edge_runtime.labels import check_labels
from edge_runtime.strict import from_json, to_mapping

RECORD_FILE = "conversion.json"
RECORD_SCHEMA_VERSION = 1
# Ten variants that flip each of ten thousand images stay below this.
MAX_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class Step:
    """One stop on the way to an artifact, such as ``nearest rounding`` or ``2 layers kept in float32: ...``.

    Attributes:
        description: What was done.
        accuracy: Of the artifact after it, 0..1.
        agreement: Share of images with Keras' answer, 0..1.
        bytes: Size of the file.
        latency_ms: As in `VariantRecord`.
        passed: Whether it was within the gate.
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
    """One artifact, whether it passed or not.

    Attributes:
        artifact: The manifest's entry.
        comparison: With Keras.
        latency_ms: Median of single invocations here, one thread, in milliseconds; 0 where it was not timed.
        steps: The way to it, in order; empty where there was one way only.
        notes: Sentences about it.
        lowest_runtimes: The lowest release of each runtime that opens it, such as ``tflite-runtime 2.11.0``.
        float_operators: How many operators of an integer artifact compute in float32.
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
    """A variant of which there is nothing to measure: it could not be exported or opened."""

    variant: str
    reason: str


@dataclass(frozen=True)
class CalibrationPoint:
    """What int8 is like with a number of calibration images; both figures 0..1."""

    images: int
    accuracy: float
    agreement: float

    def __post_init__(self) -> None:
        _check_not_negative(images=self.images)
        check_fractions(accuracy=self.accuracy, agreement=self.agreement)


@dataclass(frozen=True)
class CalibrationRecord:
    """The images that integer variants were calibrated with.

    Attributes:
        images: How many.
        shared: How many of them also check, since the set has no splits; figures of integer variants then flatter.
        method: How ranges were taken from them, such as ``min-max``.
        seed: Of their choice.
        sha256: Hash of the list of them.
        per_class: Images by label.
        points: Accuracy against their number; empty where it was not measured.
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
    """One conversion.

    Attributes:
        model_name: As in the manifest.
        labels: In output order.
        origin: What was converted.
        split: The images that it was checked on, such as ``validation``.
        check_images: How many.
        max_drop_points: Allowed loss of accuracy, percentage points.
        calibration: Of the integer variants; None where nothing was calibrated.
        variants: Everything measured, in the order of the report.
        left_out: What could not be.
        machine: Where latency was measured: processor, cores, architecture.
        seconds: Duration of the whole conversion.
        settings: Name and value of each choice.
        versions: Of the packages that bear on the result.
        schema_version: `RECORD_SCHEMA_VERSION`.
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
        """The variants that are in the bundle."""
        return tuple(record for record in self.variants if record.comparison.check.passed)

    @property
    def failed(self) -> tuple[VariantRecord, ...]:
        """The variants that were measured and lost too much."""
        return tuple(record for record in self.variants if not record.comparison.check.passed)

    def to_json(self) -> str:
        """ASCII JSON with a final newline; the same record gives the same bytes, whatever a path in it holds."""
        return json.dumps(to_mapping(self), indent=1, ensure_ascii=True, allow_nan=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, where: str = RECORD_FILE) -> ConversionRecord:
        """Parse strictly.

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
