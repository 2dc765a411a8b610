"""Contents of ``report.json``: frozen dataclasses, and the reader of the file.

It is drawn by `benchmarks.report`, and compared with another by `benchmarks.comparison`.
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


@dataclass(frozen=True)
class LabelShare:
    """Of the images with this label, the share that was answered with it (recall)."""

    label: str
    share: Share


@dataclass(frozen=True)
class Reject:
    """What the reject threshold does to answers.

    Attributes:
        threshold: Answers with a smaller score count as "none of the labels", 0..1.
        answered: Share of images that keep their answer (coverage).
        right_of_answered: Share of right answers among these; None where none is left.
    """

    threshold: float
    answered: Share
    right_of_answered: Share | None


@dataclass(frozen=True)
class Accuracy:
    """How often a model is right.

    Attributes:
        top1: Share of images whose answer is their label.
        top5: Share of images whose label is among the five best; None with five labels or fewer.
        per_label: One for each label that has images, in label order.
        calibration_error: Expected calibration error of the answers' scores, 0..1.
        reject: With the model's own reject threshold; None where it has none.
    """

    top1: Share
    top5: Share | None
    per_label: tuple[LabelShare, ...]
    calibration_error: float
    reject: Reject | None


@dataclass(frozen=True)
class Moved:
    """Images of one label that Keras answers with one label and the artifact with another."""

    label: str
    keras_answer: str
    answer: str
    count: int


@dataclass(frozen=True)
class Flip:
    """An image whose answer is another than Keras' answer.

    Attributes:
        file: The image.
        label: Its true label.
        keras_answer: What Keras answers.
        keras_score: The score of that, 0..1.
        answer: What the artifact answers.
        score: The score of that, 0..1.
    """

    file: str
    label: str
    keras_answer: str
    keras_score: float
    answer: str
    score: float


@dataclass(frozen=True)
class AgainstKeras:
    """An artifact beside the Keras model, image by image.

    Attributes:
        agreement: Share of images with the same answer.
        drop_points: Accuracy of Keras less that of the artifact, in percentage points; positive is a loss.
        drop_interval_points: Tango's 95 % interval of it.
        mcnemar_p: P value of McNemar's exact test that both are right equally often, 0..1.
        lost: Images that only Keras has right.
        gained: Images that only the artifact has right.
        moved: The most frequent kinds of flips, most frequent first, at most 20.
        flips: The worst flips: where Keras was right and sure first, at most 12.
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
    """What the board said at one moment.

    Attributes:
        temperature_c: Of the processor; None where it does not say.
        frequency_mhz: Mean frequency of the usable cores; None where it does not say.
        governor: Frequency governor, or None.
        throttling: Such as ``under-voltage now``; see `edge_runtime.platform.board.throttled`.
        load_average_1min: Load of the minute before.
    """

    temperature_c: float | None
    frequency_mhz: float | None
    governor: str | None
    throttling: tuple[str, ...]
    load_average_1min: float


@dataclass(frozen=True)
class BoardWatch:
    """The board around the measurements.

    Attributes:
        before: Just before the first.
        after: Just after the last.
        hottest_c: Highest temperature in between; None where it does not say.
        power_meter: Name of the meter that was read, or None.
        idle_w: Power before the first measurement, or None without a meter.
    """

    before: BoardState
    after: BoardState
    hottest_c: float | None
    power_meter: str | None
    idle_w: float | None


@dataclass(frozen=True)
class Unreadable:
    """An image that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    """The images of a report.

    Attributes:
        source: As the user said it.
        part: ``test``, ``validation``, ``train``, or ``all`` where the source has no parts.
        images: How many were measured on.
        images_per_label: The same by label.
        sha256: Fingerprint of the measured images; see `edge_runtime.workstation.datasets.samples.fingerprint`.
        unreadable: The images that were left out.
        ignored_files: Files that are no images by their suffix.
        trained_on: How many of the measured images the model was trained on; None where that is not known.
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
    """From the moment a process is made to its first answer for one image file, in milliseconds.

    Attributes:
        samples_ms: One per start, in order.
        median_ms: Nearest-rank median of them; the parts below belong to that start and add up to it.
        interpreter_ms: Until the child's first line.
        import_ms: Importing the libraries.
        load_ms: Opening the model.
        first_ms: Decoding, preparing and classifying the image.
        steady_ms: The same of the first image once warm: the sum of the stages' medians; None where these were not
            measured.
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
    """MLPerf's single stream: one prepared image after another, each asked when the one before is answered.

    Attributes:
        latency: Of one image that is decoded and prepared already, to its probabilities.
        duration_s: Sum of the timed calls.
        burst_p50_ms: Median of each burst of calls; the bursts of all models are interleaved in random order, and the
            bursts at one position belong to the same round.
        waiting: Time in which threads were ready but had no processor, as a share of the timed calls; None where
            unknown.
        speedup: p50 of ``keras-function`` divided by this p50, round by round; None where Keras was not measured, and
            for Keras itself.
    """

    latency: LatencySummary
    duration_s: float
    burst_p50_ms: tuple[float, ...]
    waiting: float | None
    speedup: Ratio | None


@dataclass(frozen=True)
class Offline:
    """MLPerf's offline: all image files at once, as ``edge-run classify`` does a folder.

    Attributes:
        workers: Threads, each with an interpreter of its own.
        images: Images that were classified, with repetitions.
        images_per_s: Median over the bursts.
        interval_images_per_s: Bootstrap 95 % interval of it; None with fewer than 3 bursts.
        cpu_s_per_image: Processor seconds an image: decode, prepare, invoke and the rest.
    """

    workers: int
    images: int
    images_per_s: float
    interval_images_per_s: Interval | None
    cpu_s_per_image: float


@dataclass(frozen=True)
class CameraRun:
    """A camera of a given rate, always its newest frame, through the camera loop of ``edge-run camera``.

    Attributes:
        fps: Rate of the source.
        size_wh: Width and height of its frames, in pixels.
        frames: Frames that the source showed.
        answered: Frames that were classified.
        dropped: Frames that nobody looked at, because a newer one was there.
        age_p50_ms: From the moment a frame was taken until its answer, median.
        age_p99_ms: 99th percentile, nearest rank (with fewer than 100 answers the oldest).
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
    """Where the time of one image file goes, each stage timed apart over the images of the set, medians in ms."""

    decode_ms: float
    preprocess_ms: float
    invoke_ms: float
    postprocess_ms: float
    images: int


@dataclass(frozen=True)
class ThreadPoint:
    """Single-stream latency with so many threads inside one inference."""

    threads: int
    p50_ms: float
    interval_ms: Interval | None


@dataclass(frozen=True)
class Resources:
    """What a model takes.

    Attributes:
        peak_memory_bytes: Highest resident memory of a process that started, classified one image and made the timed
            calls; None where unknown.
        steady_memory_bytes: Resident memory after the timed calls; None where unknown.
        cpu_ms_per_inference: Processor milliseconds of one single-stream call; above the latency where several threads
            work.
        install_bytes: Size of the installed packages that are needed to run it (with what these need); None where
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
    """A figure that a reader could miss, and why it is not there."""

    what: str
    reason: str


@dataclass(frozen=True)
class Performance:
    """What was measured of a subject that could be opened.

    Attributes:
        runtime: Runtime and version, such as ``litert 2.3.0``.
        delegate: What runs the operators: ``xnnpack``, ``edgetpu``, ``cpu`` ...; None where the runtime does not say.
        tensorflow_loaded: Whether TensorFlow, Keras or JAX was in the measuring process.
        accuracy: On the images of the report.
        against_keras: Beside ``keras-predict`` (``keras-function`` where that failed); None for Keras and without it.
        single_stream: The latency.
        offline: Throughput, or None where not measured.
        camera: Freshness, or None where not measured.
        stages: Or None where not measured.
        threads: By thread count; empty where not swept.
        cold_start: Of fresh processes.
        resources: Memory, processor time, size, energy.
        not_measured: What of these is missing, each with its reason.
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
    """One row: ``performance``, or the reason in ``error``.

    Attributes:
        name: ``keras-predict``, ``keras-function``, ``keras-xla`` or the artifact's variant.
        file: Name of the model file.
        bytes: Its size; 0 where it is missing.
        sha256: Of the file; empty where it is missing.
        error: Why it was not measured, or None.
        performance: The figures, or None.
    """

    name: str
    file: str
    bytes: int
    sha256: str
    error: str | None
    performance: Performance | None


REPORT_SCHEMA_VERSION = 2
_MOST_BYTES = 64 << 20
REPORT_FILE = "report.json"
MARKDOWN_FILE = "report.md"
PAGE_FILE = "report.html"
LATENCIES_FILE = "latencies.csv"
ANSWERS_FILE = "answers.csv"


@dataclass(frozen=True)
class Verdict:
    """What to ship.

    Attributes:
        variant: The recommended artifact; None where none can be recommended.
        text: One paragraph in plain words: which, why, at what cost, and how sure.
    """

    variant: str | None
    text: str


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        tool: ``edgekit`` and its version.
        created_utc: ISO 8601, when measuring began.
        duration_s: How long all of it took.
        command: The command line.
        settings: The same as data, with every default.
        model_name: From the bundle's manifest.
        bundle: As the user said it.
        bundle_manifest_sha256: Of the bundle's ``manifest.json``.
        keras_run: As the user said it, or None.
        keras_sha256: Of the Keras model file, or None.
        machine: Where it was measured.
        board: Temperature, frequency, throttling and power around the measurements.
        data: What it was measured on.
        subjects: One per model, in the order of the bundle, Keras first.
        invalid: Why nobody should quote the latencies: one sentence each; empty where they are sound.
        remarks: Sentences that a reader must know.
        verdict: What to ship.
        schema_version: `REPORT_SCHEMA_VERSION`.
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
        """Whether every subject was measured and every image was read."""
        return not self.data.unreadable and all(subject.error is None for subject in self.subjects)

    def to_json(self) -> str:
        """JSON text with a final newline."""
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """Read the report of a report directory, or a ``report.json`` itself.

    Raises:
        DataError: No report there, or one that is too large.
        ManifestError: Not JSON, of another schema version, or a field is unknown, missing or of the wrong type.
    """
    path = folder / REPORT_FILE if folder.is_dir() else folder
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: expected a report of at most {_MOST_BYTES >> 20} MiB, got more")
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: expected a report of edge-bench run ({error.strerror})") from error
    return from_json(Report, text, str(path), schema_version=REPORT_SCHEMA_VERSION, max_bytes=_MOST_BYTES)
