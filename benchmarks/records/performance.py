"""What was measured of one model, as a report holds it."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.records.accuracy import Accuracy, AgainstKeras
from benchmarks.statistics import Interval, LatencySummary, Ratio


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
        steady_ms: The same of the first picture once warm: the sum of the stages' medians; None where these were not
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
    """MLPerf's single stream: one prepared picture after another, each asked when the one before is answered.

    Attributes:
        latency: Of one picture that is decoded and prepared already, to its probabilities.
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
    """MLPerf's offline: all picture files at once, as ``edge-run classify`` does a folder.

    Attributes:
        workers: Threads, each with an interpreter of its own.
        images: Pictures that were classified, with repetitions.
        images_per_s: Median over the bursts.
        interval_images_per_s: Bootstrap 95 % interval of it; None with fewer than 3 bursts.
        cpu_s_per_image: Processor seconds a picture: decode, prepare, invoke and the rest.
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
    """Where the time of one picture file goes, each stage timed apart over the pictures of the set, medians in ms."""

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
        peak_memory_bytes: Highest resident memory of a process that started, classified one picture and made the timed
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
        accuracy: On the pictures of the report.
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
