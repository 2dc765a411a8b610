"""Rows of a report, computed from the raw measurements of each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks import records
from benchmarks.accuracy import accuracy_of, against_keras, check_probabilities
from benchmarks.evaluation import EvaluationSet
from benchmarks.measuring.protocol import Burst, CameraTrace, OfflineRun, StageTimes
from benchmarks.measuring.schedule import Measurement
from benchmarks.measuring.session import Start
from benchmarks.plan import KERAS_FUNCTION, KERAS_PREDICT
from benchmarks.resources.power_meters import explain_no_meter
from benchmarks.resources.sizes import install_bytes, packages_of
from benchmarks.settings import Settings
from benchmarks.statistics import NS_PER_MS, median_interval, percentile, ratio_of, summarize_latencies
from edge_runtime.contract import Manifest
from edge_runtime.errors import EngineError
from edge_runtime.platform.process import core_count


def assemble(
    measurements: Sequence[Measurement], images: EvaluationSet, manifest: Manifest, settings: Settings
) -> tuple[records.SubjectResult, ...]:
    """Make the rows of a report, in the order of the measurements of the images."""
    for item in measurements:
        item.error = item.error or _fault(item, images, manifest)
        if images.unlisted:
            # The scenarios that open files themselves had to leave these out.
            reason = f"{len(images.unlisted)} image(s) have a line break in their name, and were left out of these"
            item.not_measured.append(records.NotMeasured("stages, offline, camera", reason))
    done = {item.plan.name: item for item in measurements if item.error is None}
    rows = []
    for item in measurements:
        plan, performance = item.plan, None
        if item.error is None and item.probabilities is not None:
            performance = _performance(item, item.probabilities, done, images, manifest, settings)
        rows.append(records.SubjectResult(plan.name, plan.file.name, plan.bytes, plan.sha256, item.error, performance))
    return tuple(rows)


def _fault(item: Measurement, images: EvaluationSet, manifest: Manifest) -> str | None:
    """Check the answers of a model here, since a faulty reference would spoil every other row."""
    if item.probabilities is None:
        return "gave no answers"
    try:
        check_probabilities(item.probabilities, manifest.labels, len(images.truth))
    except EngineError as error:
        return str(error)
    return None


def _performance(
    item: Measurement,
    probabilities: NDArray[np.float32],
    done: Mapping[str, Measurement],
    images: EvaluationSet,
    manifest: Manifest,
    settings: Settings,
) -> records.Performance:
    truth, seed = np.asarray(images.truth, np.int64), settings.seed
    stages = _stages(item.stages) if item.stages else None
    reference = done.get(KERAS_PREDICT) or done.get(KERAS_FUNCTION)
    against: records.AgainstKeras | None = None
    if not item.plan.is_keras and reference is not None and reference.probabilities is not None:
        files = [str(sample.path) for sample in images.samples]
        keras = reference.probabilities
        against = against_keras(probabilities, keras, truth, manifest.labels, files, manifest.output)
    return records.Performance(
        runtime=item.runtime,
        delegate=item.delegate,
        tensorflow_loaded=item.tensorflow_loaded,
        accuracy=accuracy_of(probabilities, truth, manifest.labels, manifest.output),
        against_keras=against,
        single_stream=_single_stream(item, None if item.plan.is_keras else done.get(KERAS_FUNCTION), seed),
        offline=_offline(item.offline, seed) if item.offline else None,
        camera=_camera(item.camera, settings.camera_fps) if item.camera else None,
        stages=stages,
        threads=tuple(_thread_point(count, bursts, seed) for count, bursts in sorted(item.threads.items())),
        cold_start=_cold_start(item.starts, stages),
        resources=_resources(item),
        not_measured=(*item.not_measured, *_without_energy(item, settings)),
    )


def _single_stream(item: Measurement, function: Measurement | None, seed: int) -> records.SingleStream:
    own = _burst_p50_ms(item.bursts)
    spent_ns = sum(sum(burst.latencies_ns) for burst in item.bursts)
    waits_ns = [burst.waiting_ns for burst in item.bursts if burst.waiting_ns is not None]
    return records.SingleStream(
        latency=summarize_latencies([burst.latencies_ns for burst in item.bursts], seed),
        duration_s=spent_ns / 1e9,
        burst_p50_ms=own,
        waiting=sum(waits_ns) / max(1, spent_ns) if waits_ns else None,
        speedup=ratio_of(_burst_p50_ms(function.bursts), own, seed) if function else None,
    )


def _burst_p50_ms(bursts: Sequence[Burst]) -> tuple[float, ...]:
    return tuple(_median_ms(burst.latencies_ns) for burst in bursts)


def _median_ms(values_ns: Sequence[int]) -> float:
    return percentile(values_ns, 50) / NS_PER_MS


def _offline(runs: Sequence[OfflineRun], seed: int) -> records.Offline:
    rates = [run.images / (run.wall_ns / 1e9) for run in runs]
    images = sum(run.images for run in runs)
    return records.Offline(
        workers=core_count(),
        images=images,
        images_per_s=percentile(rates, 50),
        interval_images_per_s=median_interval(rates, seed),
        cpu_s_per_image=sum(run.cpu_ns for run in runs) / 1e9 / max(1, images),
    )


def _camera(trace: CameraTrace, fps: float) -> records.CameraRun:
    answered = len(trace.ages_ns)
    return records.CameraRun(
        fps=fps,
        size_wh=(trace.width, trace.height),
        frames=trace.frames,
        answered=answered,
        dropped=max(0, trace.frames - answered),
        age_p50_ms=_median_ms(trace.ages_ns),
        age_p99_ms=percentile(trace.ages_ns, 99) / NS_PER_MS,
    )


def _stages(times: StageTimes) -> records.Stages:
    return records.Stages(
        decode_ms=_median_ms(times.decode_ns),
        preprocess_ms=_median_ms(times.preprocess_ns),
        invoke_ms=_median_ms(times.invoke_ns),
        postprocess_ms=_median_ms(times.postprocess_ns),
        images=len(times.invoke_ns),
    )


def _thread_point(count: int, bursts: Sequence[Burst], seed: int) -> records.ThreadPoint:
    latency = summarize_latencies([burst.latencies_ns for burst in bursts], seed)
    return records.ThreadPoint(count, latency.p50_ms, latency.p50_interval_ms)


def _cold_start(starts: Sequence[Start], stages: records.Stages | None) -> records.ColdStart:
    """Find the nearest-rank median start and its parts."""
    ranked = sorted(starts, key=lambda start: start.total_ns)
    middle = ranked[(len(ranked) - 1) // 2]
    steady_ms = None
    if stages:
        steady_ms = stages.decode_ms + stages.preprocess_ms + stages.invoke_ms + stages.postprocess_ms
    return records.ColdStart(
        samples_ms=tuple(start.total_ns / NS_PER_MS for start in starts),
        median_ms=middle.total_ns / NS_PER_MS,
        interpreter_ms=middle.interpreter_ns / NS_PER_MS,
        import_ms=middle.import_ns / NS_PER_MS,
        load_ms=middle.load_ns / NS_PER_MS,
        first_ms=middle.first_ns / NS_PER_MS,
        steady_ms=steady_ms,
    )


def _without_energy(item: Measurement, settings: Settings) -> list[records.NotMeasured]:
    if item.energy_mj is None:
        return [records.NotMeasured("energy", explain_no_meter(settings.power))]
    if item.energy_mj[0] <= 0:
        return [records.NotMeasured("energy", "it is within the noise of the idle board")]
    return []


def _resources(item: Measurement) -> records.Resources:
    calls = sum(len(burst.latencies_ns) for burst in item.bursts)
    energy_mj, metered = item.energy_mj or (None, 0)
    return records.Resources(
        peak_memory_bytes=item.memory.peak_bytes if item.memory else None,
        steady_memory_bytes=item.memory.resident_bytes if item.memory else None,
        cpu_ms_per_inference=sum(burst.cpu_ns for burst in item.bursts) / NS_PER_MS / calls if calls else None,
        install_bytes=install_bytes(packages_of(item.runtime)),
        energy_mj_per_inference=energy_mj / metered if energy_mj and energy_mj > 0 else None,
    )
