"""Benchmark reports with made-up figures."""

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.accuracy import against_keras
from benchmarks.machine import MachineRecord
from benchmarks.plan import KERAS_FUNCTION, KERAS_SUBJECTS
from benchmarks.records import (
    Accuracy,
    Answers,
    BoardState,
    BoardWatch,
    CameraRun,
    ColdStart,
    DataRecord,
    LabelShare,
    Offline,
    Performance,
    Reject,
    Report,
    Resources,
    SingleStream,
    Stages,
    SubjectResult,
    ThreadPoint,
    Verdict,
)
from benchmarks.settings import Settings
from benchmarks.statistics import percentile, ratio_of, share_of, summarize_latencies
from edge_runtime.contract import Head, OutputSpec

LABELS = ("cat", "dog")


@dataclass(frozen=True)
class Sample:
    """One subject of a sample report.

    Attributes:
        name: Subject such as ``int8`` or ``keras-function``.
        p50_ms: Median latency.
        bytes: Size of its file.
        lost: Images that Keras answers correctly and it does not.
        gained: Images that it answers correctly and Keras does not.
        noise: Spread of the rounds, as a share of ``p50_ms``.
        memory_bytes: Peak memory.
        error: Reason why it was not measured.
    """

    name: str
    p50_ms: float
    bytes: int = 460_000
    lost: int = 0
    gained: int = 0
    noise: float = 0.01
    memory_bytes: int = 70_000_000
    error: str | None = None

    @property
    def is_keras(self):
        """True for a Keras subject."""
        return self.name in KERAS_SUBJECTS


SAMPLES = (
    Sample("keras-predict", 66.0, 2_600_000, memory_bytes=900_000_000),
    Sample("keras-function", 4.2, 2_600_000, memory_bytes=880_000_000),
    Sample("keras-xla", 3.1, 2_600_000, memory_bytes=940_000_000),
    Sample("float32", 0.70, 1_700_000),
    Sample("float16", 0.71, 860_000, lost=1, gained=1),
    Sample("dynamic", 0.93, 520_000, lost=2, gained=1),
    Sample("int8", 0.52, 660_000, lost=2, gained=1),
    Sample("int8-per-tensor", 0.50, 640_000, lost=30, gained=1),
    Sample("int16x8", 2.90, 690_000, lost=1),
    Sample("onnx-float32", 0.62, 1_690_000, memory_bytes=86_000_000),
    Sample("onnx-int8", 0.60, 560_000, lost=3, gained=2, memory_bytes=86_000_000),
    Sample("edgetpu", 1.0, 700_000, error="no Edge TPU was found; plug one in, or leave the variant out"),
)


def sample_report(samples=SAMPLES, *, images=250, keras_right=240, labels=LABELS, rounds=20, calls=10, seed=0):
    """Make a report of a quiet machine, without a verdict.

    Args:
        samples: Subjects; without one of Keras nothing is compared.
        images: Number of images; image i is ``images/<label>/<i>.jpg``, the labels taken in turn.
        keras_right: Number of images, the first ones, that Keras answers correctly.
        labels: Labels of the model.
        rounds: Bursts of each subject.
        calls: Timed calls of each burst.
        seed: Seed of the latencies.
    """
    answers = sample_answers(samples, images=images, keras_right=keras_right, labels=labels)
    bursts = sample_latencies(samples, rounds=rounds, calls=calls, seed=seed)
    has_keras = any(sample.is_keras for sample in samples)
    state = BoardState(48.5, 2400.0, "performance", (), 0.2)
    counts = {label: answers.truth.count(label) for label in labels}
    return Report(
        tool="edgekit 0.1.0",
        created_utc="2026-01-01T00:00:00+00:00",
        duration_s=171.0,
        command="edge-bench run bundles/pets --keras runs/pets --out reports/pets",
        settings=Settings(sweep_threads=(1, 2)),
        model_name="pets",
        bundle="bundles/pets",
        bundle_manifest_sha256="1" * 64,
        keras_run="runs/pets" if has_keras else None,
        keras_sha256="2" * 64 if has_keras else None,
        machine=_machine(),
        board=BoardWatch(state, state, 52.0, None, None),
        data=DataRecord("photos", "test", images, counts, "0" * 64, (), 0, 0 if has_keras else None),
        subjects=tuple(_subject(sample, answers, bursts, labels) for sample in samples),
        invalid=(),
        remarks=(),
        verdict=Verdict(None, ""),
    )


def sample_latencies(samples=SAMPLES, *, rounds=20, calls=10, seed=0):
    """Make the timed calls of such a report in milliseconds, by subject and round."""
    rng = np.random.default_rng(seed)
    found = {}
    for sample in samples:
        if sample.error is None:
            level = sample.p50_ms * (1 + sample.noise * rng.standard_normal((rounds, 1)))
            # Latencies have a long tail to the right, and never one to the left.
            found[sample.name] = (np.abs(level) * (1 + 0.05 * rng.exponential(1.0, (rounds, calls)))).tolist()
    return found


def sample_answers(samples=SAMPLES, *, images=250, keras_right=240, labels=LABELS):
    """Make the answers of such a report: a wrong one is the label after the true one."""
    truth = [labels[index % len(labels)] for index in range(images)]
    by_subject = {}
    for sample in samples:
        if sample.error is None:
            right = [index < keras_right for index in range(images)]
            right[: sample.lost] = [False] * sample.lost
            right[keras_right : keras_right + sample.gained] = [True] * sample.gained
            by_subject[sample.name] = tuple(
                labels[(index + (not is_right)) % len(labels)] for index, is_right in enumerate(right)
            )
    files = tuple(f"images/{label}/{index}.jpg" for index, label in enumerate(truth))
    return Answers(files, tuple(truth), by_subject)


def figures_of(report, name):
    return next(figures for subject, figures in report.measured() if subject.name == name)


def with_figures(report, name, **changes):
    """Change the figures of one subject."""
    changed = replace(figures_of(report, name), **changes)
    subjects = [replace(one, performance=changed) if one.name == name else one for one in report.subjects]
    return replace(report, subjects=tuple(subjects))


def with_machine(report, **changes):
    return replace(report, machine=replace(report.machine, **changes))


def with_data(report, **changes):
    return replace(report, data=replace(report.data, **changes))


def _machine():
    return MachineRecord(
        cpu_model="Sample chip",
        architecture="x86_64",
        simd=("avx2",),
        virtualised=False,
        cores_usable=2,
        cores_total=2,
        governor="performance",
        memory_bytes=8_000_000_000,
        load_average_1min=0.2,
        os_name="Sample OS 1",
        kernel="Linux 6.1.0",
        libc="glibc 2.36",
        python="3.11.9",
        packages={"numpy": "2.4.0", "ai-edge-litert": "2.3.0"},
        environment={},
        git_revision="4" * 40,
        git_dirty=False,
    )


def _subject(sample, answers, bursts, labels):
    if sample.error is not None:
        return SubjectResult(sample.name, f"pets-{sample.name}.tflite", sample.bytes, "3" * 64, sample.error, None)
    file = "model.keras" if sample.is_keras else f"pets-{sample.name}.tflite"
    performance = _performance(sample, answers, bursts, labels)
    return SubjectResult(sample.name, file, sample.bytes, "3" * 64, None, performance)


def _performance(sample, answers, bursts, labels):
    stream = _single_stream(sample, bursts)
    p50_ms = stream.latency.p50_ms
    is_keras = sample.is_keras
    names = [name for name in answers.by_subject if name in KERAS_SUBJECTS]
    return Performance(
        runtime="tensorflow 2.21.0" if is_keras else "litert 2.3.0",
        delegate=None if is_keras else "xnnpack",
        tensorflow_loaded=is_keras,
        accuracy=_accuracy(sample.name, answers, labels),
        against_keras=_against(sample.name, names[0], answers, labels) if names and not is_keras else None,
        single_stream=stream,
        offline=None if is_keras else Offline(2, 500, 1900 / (p50_ms + 1), None, (p50_ms + 1) / 1e3),
        camera=None if is_keras else CameraRun(30.0, (640, 480), 90, 90, 0, p50_ms + 3, p50_ms + 4),
        stages=Stages(0.8, 0.2, p50_ms, 0.01, len(answers.files)),
        threads=() if is_keras else (ThreadPoint(1, p50_ms, None), ThreadPoint(2, 0.7 * p50_ms, None)),
        cold_start=ColdStart((395.0, 400.0, 410.0), 400.0, 100.0, 200.0, 60.0, 40.0, p50_ms + 1.01),
        resources=Resources(sample.memory_bytes, sample.memory_bytes - 2_000_000, p50_ms, 120_000_000, None),
        not_measured=(),
    )


def _single_stream(sample, bursts):
    own = bursts[sample.name]
    p50s = tuple(percentile(burst, 50) for burst in own)
    speedup = None
    if KERAS_FUNCTION in bursts and not sample.is_keras:
        speedup = ratio_of([percentile(burst, 50) for burst in bursts[KERAS_FUNCTION]], p50s)
    return SingleStream(
        latency=summarize_latencies([[round(1e6 * call) for call in burst] for burst in own]),
        duration_s=sum(sum(burst) for burst in own) / 1e3,
        burst_p50_ms=p50s,
        waiting=0.01,
        speedup=speedup,
    )


def _accuracy(name, answers, labels):
    right = [answer == truth for answer, truth in zip(answers.by_subject[name], answers.truth, strict=True)]
    shares = []
    for label in labels:
        own = [hit for hit, truth in zip(right, answers.truth, strict=True) if truth == label]
        if own:
            shares.append(LabelShare(label, share_of(sum(own), len(own))))
    top5 = share_of(len(right), len(right)) if len(labels) > 5 else None
    # A few of the wrong answers are unsure.
    answered = len(right) - min(5, len(right) - sum(right))
    reject = Reject(0.6, share_of(answered, len(right)), share_of(sum(right), answered) if answered else None)
    return Accuracy(share_of(sum(right), len(right)), top5, tuple(shares), 0.021, reject)


def _against(name, keras, answers, labels):
    truth, theirs, own = (
        np.array([labels.index(label) for label in column])
        for column in (answers.truth, answers.by_subject[keras], answers.by_subject[name])
    )
    # Keras is surer than the artifact.
    tables = (0.6 * np.eye(len(labels), dtype=np.float32)[own], 0.9 * np.eye(len(labels), dtype=np.float32)[theirs])
    return against_keras(*tables, truth, labels, answers.files, OutputSpec(Head.SOFTMAX, 0.0))
