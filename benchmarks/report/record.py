"""What a benchmark report holds (``report.json``), as data with a versioned schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import MachineRecord
from benchmarks.statistics import LatencySummary, Share
from edge_runtime.errors import DataError
from edge_runtime.strict import from_mapping, to_mapping

REPORT_SCHEMA_VERSION = 1
REPORT_FILE = "report.json"
MARKDOWN_FILE = "report.md"
LATENCIES_FILE = "latencies.csv"
ANSWERS_FILE = "answers.csv"


@dataclass(frozen=True)
class Unreadable:
    """A picture that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    """The pictures of a report.

    Attributes:
        source: As the user said it.
        part: ``test``, ``validation``, ``train``, or ``all`` where the source has no parts.
        images: How many were measured on.
        images_per_label: The same by label.
        sha256: Fingerprint of the measured pictures; see `edge_runtime.datasets.samples.fingerprint`.
        unreadable: The pictures that were left out.
        ignored_files: Files that are no pictures by their suffix.
        trained_on: How many of the measured pictures the model was trained on; None where that is not known.
    """

    source: str
    part: str
    images: int
    images_per_label: dict[str, int]
    sha256: str
    unreadable: tuple[Unreadable, ...]
    ignored_files: int
    trained_on: int | None


@dataclass(frozen=True)
class ColdStart:
    """From the moment a process is made to its first answer for one picture file, in milliseconds.

    Attributes:
        samples_ms: One per start, in order.
        median_ms: Nearest-rank median of them; the parts below belong to that start and add up to it.
        interpreter_ms: Until the child's first line.
        import_ms: Importing the libraries.
        load_ms: Opening the model.
        first_ms: Decoding, preparing and classifying the picture.
    """

    samples_ms: tuple[float, ...]
    median_ms: float
    interpreter_ms: float
    import_ms: float
    load_ms: float
    first_ms: float


@dataclass(frozen=True)
class Performance:
    """What was measured of a subject that could be opened.

    Attributes:
        runtime: Runtime and version.
        tensorflow_loaded: Whether TensorFlow, Keras or JAX was in the measuring process.
        accuracy: Share of right answers.
        agreement: Share of pictures with the answer of the Keras reference; None without one and for itself.
        latency: Of one picture, prepared already.
        waiting: Share of the timed calls in which another process had the processor; None where unknown.
        cold_start: Of a fresh process.
        peak_memory_bytes: Highest resident memory of the measuring process, None where unknown.
        speedup: p50 of ``keras-function`` divided by this p50; None where Keras was not measured.
    """

    runtime: str
    tensorflow_loaded: bool
    accuracy: Share
    agreement: Share | None
    latency: LatencySummary
    waiting: float | None
    cold_start: ColdStart
    peak_memory_bytes: int | None
    speedup: float | None


@dataclass(frozen=True)
class SubjectResult:
    """One row: ``performance``, or the reason in ``error``.

    Attributes:
        name: ``keras-predict``, ``keras-function`` or the artifact's variant.
        file: Name of the model file.
        bytes: Its size; 0 where it is missing.
        error: Why it was not measured, or None.
        performance: The figures, or None.
    """

    name: str
    file: str
    bytes: int
    error: str | None
    performance: Performance | None


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        tool: ``edgekit`` and its version.
        created_utc: ISO 8601, when measuring began.
        command: The command line.
        model_name: From the bundle's manifest.
        bundle: As the user said it.
        bundle_manifest_sha256: Of the bundle's ``manifest.json``, which holds the hash of every artifact.
        keras_run: As the user said it, or None.
        threads: Threads inside one inference.
        machine: Where it was measured.
        data: What it was measured on.
        subjects: One per model, in the order they were measured.
        remarks: Sentences that a reader must know.
        schema_version: `REPORT_SCHEMA_VERSION`.
    """

    tool: str
    created_utc: str
    command: str
    model_name: str
    bundle: str
    bundle_manifest_sha256: str
    keras_run: str | None
    threads: int
    machine: MachineRecord
    data: DataRecord
    subjects: tuple[SubjectResult, ...]
    remarks: tuple[str, ...]
    schema_version: int = REPORT_SCHEMA_VERSION

    @property
    def is_complete(self) -> bool:
        """Whether every subject was measured and every picture was read."""
        return not self.data.unreadable and all(subject.error is None for subject in self.subjects)

    def to_json(self) -> str:
        """JSON text with a final newline."""
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """Read the report of a report directory.

    Raises:
        DataError: No report there, or not JSON.
        ManifestError: A field is unknown, missing or of the wrong type.
    """
    path = folder / REPORT_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a report of edge-bench run ({error})") from error
    return from_mapping(Report, data, str(path))
