"""Contents of ``report.json``: frozen dataclasses, and the reader of the file.

`benchmarks.report` draws it, and `benchmarks.comparison` compares two. The docstrings are the descriptions in the
published schema; see `benchmarks.report.schema`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import MachineRecord
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
    """Effect of the reject threshold.

    Attributes:
        threshold: Score below which an answer counts as "none of the labels", 0..1.
        answered: Share of images that keep their answer (coverage).
        right_of_answered: Share of right answers among these; None if none is left.
    """

    threshold: float
    answered: Share
    right_of_answered: Share | None


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of a model.

    Attributes:
        top1: Share of images whose answer is their label.
        top5: Share of images whose label is among the five best; None with five labels or fewer.
        per_label: Recall of each label that has images, in label order.
        calibration_error: Expected calibration error of the answers' scores, 0..1.
        reject: Effect of the model's own reject threshold; None if it has none.
    """

    top1: Share
    top5: Share | None
    per_label: tuple[LabelShare, ...]
    calibration_error: float
    reject: Reject | None


@dataclass(frozen=True)
class Moved:
    """Number of images of one label that Keras answers with one label and the artifact with another."""

    label: str
    keras_answer: str
    answer: str
    count: int


@dataclass(frozen=True)
class Flip:
    """An image to which the artifact and Keras give different answers.

    Attributes:
        file: Path of the image.
        label: True label of the image.
        keras_answer: Answer of Keras.
        keras_score: Score of the Keras answer, 0..1.
        answer: Answer of the artifact.
        score: Score of the artifact's answer, 0..1.
    """

    file: str
    label: str
    keras_answer: str
    keras_score: float
    answer: str
    score: float


@dataclass(frozen=True)
class AgainstKeras:
    """Comparison of an artifact with the Keras model, image by image.

    Attributes:
        agreement: Share of images with the same answer.
        drop_points: Accuracy of Keras minus that of the artifact, in percentage points; positive is a loss.
        drop_interval_points: Tango's 95 % interval of the drop.
        mcnemar_p: P value of McNemar's exact test that both are right equally often, 0..1.
        lost: Number of images that only Keras answers correctly.
        gained: Number of images that only the artifact answers correctly.
        moved: Most frequent kinds of flips, most frequent first, at most 20.
        flips: Worst flips, at most 12; first those where Keras was right with the highest scores.
    """

    agreement: Share
    drop_points: float
    drop_interval_points: Interval
    mcnemar_p: float
    lost: int
    gained: int
    moved: tuple[Moved, ...]
    flips: tuple[Flip, ...]


@dataclass(frozen=True)
class BoardState:
    """State of the board at one moment.

    Attributes:
        temperature_c: CPU temperature in °C; None if unknown.
        frequency_mhz: Mean frequency of the usable cores; None if unknown.
        governor: Frequency governor, or None.
        throttling: Flags such as ``under-voltage now``; see `edge_runtime.platform.board.throttled`.
        load_average_1min: Load average of the minute before.
    """

    temperature_c: float | None
    frequency_mhz: float | None
    governor: str | None
    throttling: tuple[str, ...]
    load_average_1min: float


@dataclass(frozen=True)
class BoardWatch:
    """State of the board around the measurements.

    Attributes:
        before: State just before the first measurement.
        after: State just after the last measurement.
        hottest_c: Highest temperature in between, in °C; None if unknown.
        power_meter: Name of the meter that was read, or None.
        idle_w: Power in watts before the first measurement, or None without a meter.
    """

    before: BoardState
    after: BoardState
    hottest_c: float | None
    power_meter: str | None
    idle_w: float | None


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    """Images of a report.

    Attributes:
        source: Source as the user gave it.
        part: ``test``, ``validation``, ``train``, or ``all`` if the source has no parts.
        images: Number of measured images.
        images_per_label: Number of measured images by label.
        sha256: Fingerprint of the measured images; see `edge_runtime.workstation.datasets.samples.fingerprint`.
        unreadable: Images that were left out.
        ignored_files: Number of files that are not images by their suffix.
        trained_on: Number of measured images that the model was trained on; None if unknown.
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
    """Time from the start of a process to its first answer for one image file, in milliseconds.

    Attributes:
        samples_ms: Duration of each start, in order.
        median_ms: Nearest-rank median; the parts below belong to that start and add up to it.
        interpreter_ms: Time until the child's first line of Python.
        import_ms: Time to import the libraries.
        load_ms: Time to open the model.
        first_ms: Time to decode, prepare and classify the image.
        steady_ms: Time for one image file once warm: the sum of the stages' medians; None if these were not measured.
    """

    samples_ms: tuple[float, ...]
    median_ms: float
    interpreter_ms: float
    import_ms: float
    load_ms: float
    first_ms: float
    steady_ms: float | None


@dataclass(frozen=True)
class SingleStream:
    """Single stream as in MLPerf: one prepared image after another, each sent when the one before is answered.

    Attributes:
        latency: Latency from one decoded and prepared image to its probabilities.
        duration_s: Sum of the timed calls.
        burst_p50_ms: Median of each burst of calls; the bursts of all models are interleaved in random order, and the
            bursts at one position belong to the same round.
        waiting: Time in which threads were ready but had no CPU, as a share of the timed calls; None if unknown.
        speedup: p50 of ``keras-function`` divided by this p50, round by round; None if Keras was not measured, and
            for Keras itself.
    """

    latency: LatencySummary
    duration_s: float
    burst_p50_ms: tuple[float, ...]
    waiting: float | None
    speedup: Ratio | None


@dataclass(frozen=True)
class Offline:
    """Offline as in MLPerf: all image files at once, as ``edge-run classify`` does with a folder.

    Attributes:
        workers: Threads, each with its own interpreter.
        images: Images that were classified, with repetitions.
        images_per_s: Throughput, median over the bursts.
        interval_images_per_s: Bootstrap 95 % interval of the throughput; None with fewer than 3 bursts.
        cpu_s_per_image: CPU seconds per image: decode, prepare, invoke and the rest.
    """

    workers: int
    images: int
    images_per_s: float
    interval_images_per_s: Interval | None
    cpu_s_per_image: float


@dataclass(frozen=True)
class CameraRun:
    """Freshness behind a camera of a fixed rate that always gives its newest frame, as in ``edge-run camera``.

    Attributes:
        fps: Frame rate of the source.
        size_wh: Width and height of its frames, in pixels.
        frames: Frames that the source showed.
        answered: Frames that were classified.
        dropped: Frames that were skipped because a newer one was there.
        age_p50_ms: Median time from the capture of a frame to its answer.
        age_p99_ms: 99th percentile of that time, nearest rank (with fewer than 100 answers the highest).
    """

    fps: float
    size_wh: tuple[int, ...]
    frames: int
    answered: int
    dropped: int
    age_p50_ms: float
    age_p99_ms: float


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
    """Resources that a model needs.

    Attributes:
        peak_memory_bytes: Highest resident memory of a process that started, classified one image and made the timed
            calls; None if unknown.
        steady_memory_bytes: Resident memory after the timed calls; None if unknown.
        cpu_ms_per_inference: CPU milliseconds of one single-stream call; above the latency if several threads work.
        install_bytes: Size of the installed packages that are needed to run it, with their dependencies; None if
            unknown.
        energy_mj_per_inference: Energy above idle in millijoules; None without a power meter.
    """

    peak_memory_bytes: int | None
    steady_memory_bytes: int | None
    cpu_ms_per_inference: float | None
    install_bytes: int | None
    energy_mj_per_inference: float | None


@dataclass(frozen=True)
class NotMeasured:
    """A figure that is missing, and the reason."""

    what: str
    reason: str


@dataclass(frozen=True)
class Performance:
    """Figures of a subject that could be opened.

    Attributes:
        runtime: Runtime and version, such as ``litert 2.3.0``.
        delegate: Executor of the operators: ``xnnpack``, ``edgetpu``, ``cpu`` ...; None if the runtime does not tell.
        tensorflow_loaded: True if TensorFlow, Keras or JAX was in the measuring process.
        accuracy: Accuracy on the images of the report.
        against_keras: Comparison with ``keras-predict`` (``keras-function`` if that failed); None for Keras and
            without it.
        single_stream: Latency of single calls.
        offline: Throughput, or None if not measured.
        camera: Freshness, or None if not measured.
        stages: Stage times, or None if not measured.
        threads: Latency by thread count; empty if not swept.
        cold_start: Cold starts of fresh processes.
        resources: Memory, CPU time, size and energy.
        not_measured: Missing figures, each with its reason.
    """

    runtime: str
    delegate: str | None
    tensorflow_loaded: bool
    accuracy: Accuracy
    against_keras: AgainstKeras | None
    single_stream: SingleStream
    offline: Offline | None
    camera: CameraRun | None
    stages: Stages | None
    threads: tuple[ThreadPoint, ...]
    cold_start: ColdStart
    resources: Resources
    not_measured: tuple[NotMeasured, ...]


@dataclass(frozen=True)
class SubjectResult:
    """One row of the report: figures, or the reason why there are none.

    Attributes:
        name: ``keras-predict``, ``keras-function``, ``keras-xla`` or the artifact's variant.
        file: Name of the model file.
        bytes: Size of the file; 0 if it is missing.
        sha256: Hash of the file; empty if it is missing.
        error: Reason why it was not measured, or None.
        performance: Figures, or None.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    error: str | None
    performance: Performance | None


@dataclass(frozen=True)
class Verdict:
    """Recommendation of an artifact to ship.

    Attributes:
        variant: Recommended artifact; None if none can be recommended.
        text: One paragraph on the choice, its reason, its trade-offs and its certainty.
    """

    variant: str | None
    text: str


@dataclass(frozen=True)
class Report:
    """A benchmark report.

    Attributes:
        tool: ``edgekit`` and its version.
        created_utc: Start of the measurements, ISO 8601.
        duration_s: Duration of the whole run.
        command: Command line as typed.
        settings: Settings, with every default.
        model_name: Model name in the bundle's manifest.
        bundle: Bundle as the user gave it.
        bundle_manifest_sha256: Hash of the bundle's ``manifest.json``.
        keras_run: Run directory as the user gave it, or None.
        keras_sha256: Hash of the Keras model file, or None.
        machine: Machine of the measurements.
        board: Temperature, frequency, throttling and power around the measurements.
        data: Images of the measurements.
        subjects: One row per model, in the order of the bundle, Keras first.
        invalid: Reasons why the latencies must not be quoted, one sentence each; empty if they are valid.
        remarks: Sentences with further limitations.
        verdict: Recommended artifact, with reasons.
        schema_version: Version of this format, `REPORT_SCHEMA_VERSION`.
    """

    tool: str
    created_utc: str
    duration_s: float
    command: str
    settings: Settings
    model_name: str
    bundle: str
    bundle_manifest_sha256: str
    keras_run: str | None
    keras_sha256: str | None
    machine: MachineRecord
    board: BoardWatch
    data: DataRecord
    subjects: tuple[SubjectResult, ...]
    invalid: tuple[str, ...]
    remarks: tuple[str, ...]
    verdict: Verdict
    schema_version: int = REPORT_SCHEMA_VERSION

    @property
    def is_complete(self) -> bool:
        """True if every subject was measured and every image was read."""
        return not self.data.unreadable and all(subject.error is None for subject in self.subjects)

    def to_json(self) -> str:
        """Write the report as JSON text with a final newline."""
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """Read the report of a report directory, or a ``report.json`` itself.

    Raises:
        DataError: There is no report, or it is too large.
        ManifestError: The file is not JSON or of another schema version, or a field is unknown, missing or of the
            wrong type.
    """
    path = folder / REPORT_FILE if folder.is_dir() else folder
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path}: expected a report of at most {_MAX_BYTES >> 20} MiB, got more")
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: expected a report of edge-bench run ({error.strerror})") from error
    return from_json(Report, text, str(path), schema_version=REPORT_SCHEMA_VERSION, max_bytes=_MAX_BYTES)
