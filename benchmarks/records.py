"""Contents of ``report.json`` and ``answers.csv``: frozen dataclasses, and the reader of a report.

`benchmarks.report` draws it, and `benchmarks.comparison` compares two. The published schema has the docstrings and the
texts beside the fields as its descriptions; see `benchmarks.report.schema`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import MachineRecord
from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.settings import Settings
from benchmarks.statistics import Interval, LatencySummary, Ratio, Share
from edge_runtime.errors import DataError
from edge_runtime.strict import from_json, to_mapping

REPORT_SCHEMA_VERSION = 2
REPORT_FILE = "report.json"
MARKDOWN_FILE = "report.md"
PAGE_FILE = "report.html"
LATENCIES_FILE = "latencies.csv"
ANSWERS_FILE = "answers.csv"
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class LabelShare:
    """Recall of one label: the share of its images that are answered with it."""

    label: str
    share: Share


@dataclass(frozen=True)
class Reject:
    """Effect of the reject threshold."""

    threshold: Annotated[float, 'Score below which an answer counts as "none of the labels", 0..1.']
    answered: Annotated[Share, "Share of images that keep their answer (coverage)."]
    right_of_answered: Annotated[Share | None, "Share of right answers among these; None if none is left."]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a model."""

    top1: Annotated[Share, "Share of images whose answer is their label."]
    top5: Annotated[Share | None, "Share of images whose label is among the five best; None with five labels or fewer."]
    per_label: Annotated[tuple[LabelShare, ...], "Recall of each label that has images, in label order."]
    calibration_error: Annotated[float, "Expected calibration error of the answers' scores, 0..1."]
    reject: Annotated[Reject | None, "Effect of the model's own reject threshold; None if it has none."]


@dataclass(frozen=True)
class Moved:
    """Number of images of one label that Keras answers with one label and the artifact with another."""

    label: str
    keras_answer: str
    answer: str
    count: int


@dataclass(frozen=True)
class Flip:
    """An image to which the artifact and Keras give different answers."""

    file: Annotated[str, "Path of the image."]
    label: Annotated[str, "True label of the image."]
    keras_answer: Annotated[str, "Answer of Keras."]
    keras_score: Annotated[float, "Score of the Keras answer, 0..1."]
    answer: Annotated[str, "Answer of the artifact."]
    score: Annotated[float, "Score of the artifact's answer, 0..1."]


@dataclass(frozen=True)
class AgainstKeras:
    """Comparison of an artifact with the Keras model, image by image."""

    agreement: Annotated[Share, "Share of images with the same answer."]
    drop_points: Annotated[
        float, "Accuracy of Keras minus that of the artifact, in percentage points; positive is a loss."
    ]
    drop_interval_points: Annotated[Interval, "Tango's 95 % interval of the drop."]
    mcnemar_p: Annotated[float, "P value of McNemar's exact test that both are right equally often, 0..1."]
    lost: Annotated[int, "Number of images that only Keras answers correctly."]
    gained: Annotated[int, "Number of images that only the artifact answers correctly."]
    moved: Annotated[tuple[Moved, ...], "Most frequent kinds of flips, most frequent first, at most 20."]
    flips: Annotated[
        tuple[Flip, ...], "Worst flips, at most 12; first those where Keras was right with the highest scores."
    ]


@dataclass(frozen=True)
class BoardState:
    """State of the board at one moment."""

    temperature_c: Annotated[float | None, "CPU temperature in °C; None if unknown."]
    frequency_mhz: Annotated[float | None, "Mean frequency of the usable cores; None if unknown."]
    governor: Annotated[str | None, "Frequency governor, or None."]
    throttling: Annotated[
        tuple[str, ...], "Flags such as ``under-voltage now``; see `edge_runtime.platform.board.throttled`."
    ]
    load_average_1min: Annotated[float, "Load average of the minute before."]


@dataclass(frozen=True)
class BoardWatch:
    """State of the board around the measurements."""

    before: Annotated[BoardState, "State just before the first measurement."]
    after: Annotated[BoardState, "State just after the last measurement."]
    hottest_c: Annotated[float | None, "Highest temperature in between, in °C; None if unknown."]
    power_meter: Annotated[str | None, "Name of the meter that was read, or None."]
    idle_w: Annotated[float | None, "Power in watts before the first measurement, or None without a meter."]


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    """Images of a report."""

    source: Annotated[str, "Source as the user gave it."]
    part: Annotated[str, "``test``, ``validation``, ``train``, or ``all`` if the source has no parts."]
    images: Annotated[int, "Number of measured images."]
    images_per_label: Annotated[dict[str, int], "Number of measured images by label."]
    sha256: Annotated[
        str, "Fingerprint of the measured images; see `edge_runtime.workstation.datasets.samples.fingerprint`."
    ]
    unreadable: Annotated[tuple[Unreadable, ...], "Images that were left out."]
    ignored_files: Annotated[int, "Number of files that are not images by their suffix."]
    trained_on: Annotated[int | None, "Number of measured images that the model was trained on; None if unknown."]


@dataclass(frozen=True)
class ColdStart:
    """Time from the start of a process to its first answer for one image file, in milliseconds."""

    samples_ms: Annotated[tuple[float, ...], "Duration of each start, in order."]
    median_ms: Annotated[float, "Nearest-rank median; the parts below belong to that start and add up to it."]
    interpreter_ms: Annotated[float, "Time until the child's first line of Python."]
    import_ms: Annotated[float, "Time to import the libraries."]
    load_ms: Annotated[float, "Time to open the model."]
    first_ms: Annotated[float, "Time to decode, prepare and classify the image."]
    steady_ms: Annotated[
        float | None,
        "Time for one image file once warm: the sum of the stages' medians; None if these were not measured.",
    ]


@dataclass(frozen=True)
class SingleStream:
    """Single stream as in MLPerf: one prepared image after another, each sent when the one before is answered."""

    latency: Annotated[LatencySummary, "Latency from one decoded and prepared image to its probabilities."]
    duration_s: Annotated[float, "Sum of the timed calls."]
    burst_p50_ms: Annotated[
        tuple[float, ...],
        "Median of each burst of calls; the bursts of all models are interleaved in random order, and the bursts at "
        "one position belong to the same round.",
    ]
    waiting: Annotated[
        float | None, "Time in which threads were ready but had no CPU, as a share of the timed calls; None if unknown."
    ]
    speedup: Annotated[
        Ratio | None,
        "p50 of ``keras-function`` divided by this p50, round by round; None if Keras was not measured, and for Keras "
        "itself.",
    ]


@dataclass(frozen=True)
class Offline:
    """Offline as in MLPerf: all image files at once, as ``edge-run classify`` does with a folder."""

    workers: Annotated[int, "Threads, each with its own interpreter."]
    images: Annotated[int, "Images that were classified, with repetitions."]
    images_per_s: Annotated[float, "Throughput, median over the bursts."]
    interval_images_per_s: Annotated[
        Interval | None, "Bootstrap 95 % interval of the throughput; None with fewer than 3 bursts."
    ]
    cpu_s_per_image: Annotated[float, "CPU seconds per image: decode, prepare, invoke and the rest."]


@dataclass(frozen=True)
class CameraRun:
    """Freshness behind a camera of a fixed rate that always gives its newest frame, as in ``edge-run camera``."""

    fps: Annotated[float, "Frame rate of the source."]
    size_wh: Annotated[tuple[int, ...], "Width and height of its frames, in pixels."]
    frames: Annotated[int, "Frames that the source showed."]
    answered: Annotated[int, "Frames that were classified."]
    dropped: Annotated[int, "Frames that were skipped because a newer one was there."]
    age_p50_ms: Annotated[float, "Median time from the capture of a frame to its answer."]
    age_p99_ms: Annotated[
        float, "99th percentile of that time, nearest rank (with fewer than 100 answers the highest)."
    ]


@dataclass(frozen=True)
class Stages:
    """Median time of each stage of one image file in milliseconds, timed apart over images of the set."""

    decode_ms: float
    preprocess_ms: float
    invoke_ms: float
    postprocess_ms: float
    images: int


@dataclass(frozen=True)
class ThreadPoint:
    """Single-stream latency with a number of threads inside one inference."""

    threads: int
    p50_ms: float
    interval_ms: Interval | None


@dataclass(frozen=True)
class Resources:
    """Resources that a model needs."""

    peak_memory_bytes: Annotated[
        int | None,
        "Highest resident memory of a process that started, classified one image and made the timed calls; None if "
        "unknown.",
    ]
    steady_memory_bytes: Annotated[int | None, "Resident memory after the timed calls; None if unknown."]
    cpu_ms_per_inference: Annotated[
        float | None, "CPU milliseconds of one single-stream call; above the latency if several threads work."
    ]
    install_bytes: Annotated[
        int | None,
        "Size of the installed packages that are needed to run it, with their dependencies; None if unknown.",
    ]
    energy_mj_per_inference: Annotated[float | None, "Energy above idle in millijoules; None without a power meter."]


@dataclass(frozen=True)
class NotMeasured:
    """A figure that is missing, and the reason."""

    what: str
    reason: str


@dataclass(frozen=True)
class Performance:
    """Figures of a subject that could be opened."""

    runtime: Annotated[str, "Runtime and version, such as ``litert 2.3.0``."]
    delegate: Annotated[
        str | None,
        "Executor of the operators: ``xnnpack``, ``edgetpu``, ``cpu`` ...; None if the runtime does not tell.",
    ]
    tensorflow_loaded: Annotated[bool, "True if TensorFlow, Keras or JAX was in the measuring process."]
    accuracy: Annotated[Accuracy, "Accuracy on the images of the report."]
    against_keras: Annotated[
        AgainstKeras | None,
        "Comparison with ``keras-predict`` (``keras-function`` if that failed); None for Keras and without it.",
    ]
    single_stream: Annotated[SingleStream, "Latency of single calls."]
    offline: Annotated[Offline | None, "Throughput, or None if not measured."]
    camera: Annotated[CameraRun | None, "Freshness, or None if not measured."]
    stages: Annotated[Stages | None, "Stage times, or None if not measured."]
    threads: Annotated[tuple[ThreadPoint, ...], "Latency by thread count; empty if not swept."]
    cold_start: Annotated[ColdStart, "Cold starts of fresh processes."]
    resources: Annotated[Resources, "Memory, CPU time, size and energy."]
    not_measured: Annotated[tuple[NotMeasured, ...], "Missing figures, each with its reason."]


@dataclass(frozen=True)
class SubjectResult:
    """One row of the report: figures, or the reason why there are none."""

    name: Annotated[str, "``keras-predict``, ``keras-function``, ``keras-xla`` or the artifact's variant."]
    file: Annotated[str, "Name of the model file."]
    bytes: Annotated[int, "Size of the file; 0 if it is missing."]
    sha256: Annotated[str, "Hash of the file; empty if it is missing."]
    error: Annotated[str | None, "Reason why it was not measured, or None."]
    performance: Annotated[Performance | None, "Figures, or None."]

    @property
    def is_keras(self) -> bool:
        """True for a Keras model, False for an artifact."""
        return self.name in KERAS_SUBJECTS


@dataclass(frozen=True)
class Verdict:
    """Recommendation of an artifact to ship."""

    variant: Annotated[str | None, "Recommended artifact; None if none can be recommended."]
    text: Annotated[str, "One paragraph on the choice, its reason, its trade-offs and its certainty."]


@dataclass(frozen=True)
class Report:
    """A benchmark report."""

    tool: Annotated[str, "``edgekit`` and its version."]
    created_utc: Annotated[str, "Start of the measurements, ISO 8601."]
    duration_s: Annotated[float, "Duration of the whole run."]
    command: Annotated[str, "Command line as typed."]
    settings: Annotated[Settings, "Settings, with every default."]
    model_name: Annotated[str, "Model name in the bundle's manifest."]
    bundle: Annotated[str, "Bundle as the user gave it."]
    bundle_manifest_sha256: Annotated[str, "Hash of the bundle's ``manifest.json``."]
    keras_run: Annotated[str | None, "Run directory as the user gave it, or None."]
    keras_sha256: Annotated[str | None, "Hash of the Keras model file, or None."]
    machine: Annotated[MachineRecord, "Machine of the measurements."]
    board: Annotated[BoardWatch, "Temperature, frequency, throttling and power around the measurements."]
    data: Annotated[DataRecord, "Images of the measurements."]
    subjects: Annotated[tuple[SubjectResult, ...], "One row per model, in the order of the bundle, Keras first."]
    invalid: Annotated[
        tuple[str, ...], "Reasons why the latencies must not be quoted, one sentence each; empty if they are valid."
    ]
    remarks: Annotated[tuple[str, ...], "Sentences with further limitations."]
    verdict: Annotated[Verdict, "Recommended artifact, with reasons."]
    schema_version: Annotated[int, "Version of this format, `REPORT_SCHEMA_VERSION`."] = REPORT_SCHEMA_VERSION

    @property
    def is_complete(self) -> bool:
        """True if every subject was measured and every image was read."""
        return not self.data.unreadable and all(subject.error is None for subject in self.subjects)

    def measured(self) -> list[tuple[SubjectResult, Performance]]:
        """List the subjects with figures."""
        return [(subject, subject.performance) for subject in self.subjects if subject.performance is not None]

    def to_json(self) -> str:
        """Write the report as JSON text with a final newline."""
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@dataclass(frozen=True)
class Answers:
    """Contents of ``answers.csv``.

    Attributes:
        files: Paths of the images, as in the report.
        truth: True label of each image.
        by_subject: Label that each subject answers with, image by image.
        hashes: SHA-256 of each image, or None where the file has no such column.
    """

    files: tuple[str, ...]
    truth: tuple[str, ...]
    by_subject: Mapping[str, Sequence[str]]
    hashes: tuple[str, ...] | None = None

    def right(self, subject: str) -> NDArray[np.bool_]:
        """Compare the answers of a subject with the truth: bool [images]."""
        pairs = zip(self.by_subject[subject], self.truth, strict=True)
        return np.array([answer == label for answer, label in pairs], np.bool_)

    def match(self, subject: str, share: Share) -> bool:
        """Tell whether these answers are those that a report counted: the file may belong to another run."""
        if subject not in self.by_subject or len(self.truth) != share.total:
            return False
        return int(np.count_nonzero(self.right(subject))) == share.hits


def check_file(path: Path, most_bytes: int, what: str) -> None:
    """Raise DataError, naming what was expected, unless a path is a regular file of at most ``most_bytes``."""
    try:
        if not path.is_file():
            raise DataError(f"{path}: expected {what}, got {'no file' if path.exists() else 'nothing there'}")
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: expected {what} ({error.strerror})") from error
    if size > most_bytes:
        raise DataError(f"{path}: expected {what} of at most {most_bytes >> 20} MiB, got {size:,} bytes")


def read_report(folder: Path) -> Report:
    """Read the report of a report directory, or a ``report.json`` itself.

    Raises:
        DataError: There is no report, or it is too large.
        ManifestError: The file is not JSON or of another schema version, or a field is unknown, missing or of the
            wrong type.
    """
    path = folder / REPORT_FILE if folder.is_dir() else folder
    check_file(path, _MAX_BYTES, "a report of edge-bench run")
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: expected a report of edge-bench run ({error.strerror})") from error
    return from_json(Report, text, str(path), schema_version=REPORT_SCHEMA_VERSION, max_bytes=_MAX_BYTES)
