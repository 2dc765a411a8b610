"""Overhead of the camera loop beside the model, and age of its answers: the tables on the camera in RESULTS.md.

    python -m benchmarks.studies.camera_loop overhead MODEL VIDEO [--labels FILE --crop CROP]
    python -m benchmarks.studies.camera_loop freshness VIDEO [--frames 10000]

``overhead`` runs the same decoded frames through the bare stages (`Classifier.prepare` and the engine's ``invoke``) and
through the whole loop with its decisions, health and a JSON-lines sink, in turns, one thread. ``freshness`` plays a
video of any rate as a camera of 30 frames a second in the capture process, and answers with a model that takes 50 ms.
"""

from __future__ import annotations

import io
import itertools
import statistics
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.studies.common import write_video
from edge_runtime.classifier import Classifier
from edge_runtime.commands.options import read_labels_file
from edge_runtime.contract import Crop
from edge_runtime.model.bundle import ModelOptions, find_model
from edge_runtime.pipeline.camera import classify_frames
from edge_runtime.pipeline.decide import Decider, DecisionRule, parse_smoothing
from edge_runtime.pipeline.health import Health
from edge_runtime.preprocess import ImageU8
from edge_runtime.results import Classified
from edge_runtime.sinks.rows import JsonlSink
from edge_runtime.sources.base import CaptureOptions, Frame
from edge_runtime.sources.opening import open_source
from edge_runtime.testing import FakeEngine, FakeSource, fake_classifier

_FPS = 30
_MODEL_S = 0.050


@click.group()
def main() -> None:
    """Measure the camera loop."""


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("video")
@click.option("--labels", type=click.Path(path_type=Path))
@click.option("--crop", type=click.Choice([crop.value for crop in Crop]))
@click.option("--rounds", default=150, help="Rounds of both sides.")
@click.option("--frames", default=20, help="Frames of each round.")
def overhead(model: Path, video: str, labels: Path | None, crop: str | None, rounds: int, frames: int) -> None:
    """Compare the loop with its bare stages."""
    options = ModelOptions(read_labels_file(labels) if labels else None, Crop(crop) if crop else None)
    classifier = Classifier(find_model(model, None, options))
    images = _decoded(video, frames)
    _bare(classifier, images)
    _loop(classifier, images)
    pairs = [(_bare(classifier, images), _loop(classifier, images)) for _ in range(rounds)]
    print(f"{rounds} rounds of {frames} frames {images[0].shape[1]}x{images[0].shape[0]}, in turns")
    for index, clock in enumerate(("wall", "processor")):
        bare_ms, loop_ms = (statistics.median(pair[side][index] for pair in pairs) / frames * 1e3 for side in (0, 1))
        low, middle, high = statistics.quantiles([loop[index] / bare[index] for bare, loop in pairs], n=4)
        print(
            f"{clock}: bare prepare + invoke {bare_ms:.3f} ms, loop {loop_ms:.3f} ms a frame, "
            f"overhead median {middle - 1:+.2%} (quartiles {low - 1:+.2%} to {high - 1:+.2%})"
        )


@main.command()
@click.argument("video")
@click.option("--frames", default=10_000, help="Frames of the source.")
def freshness(video: str, frames: int) -> None:
    """Measure how much older answers are than their own work takes."""
    with tempfile.TemporaryDirectory() as folder:
        paced = Path(folder) / "paced.mp4"
        images = _decoded(video, 10 * _FPS)
        size_wh = images[0].shape[1], images[0].shape[0]
        write_video(paced, (cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in images), size_wh, _FPS)
        del images
        source = open_source(str(paced), CaptureOptions(realtime=True, loop=True))
        classifier = fake_classifier(engine=FakeEngine(2, 224, delay_s=_MODEL_S))
        answers: list[Classified] = []
        until_s = time.perf_counter() + frames / _FPS
        for result, _ in classify_frames(source, classifier, _decider(classifier), top_k=1, until_s=until_s):
            if isinstance(result, Classified):
                answers.append(result)
        source.close()
    waits_ms = [answer.frame.age_ms - answer.latency_ms.total for answer in answers if answer.frame]
    ages_ms = [answer.frame.age_ms for answer in answers if answer.frame]
    last = answers[-1].frame
    print(f"{last.number + 1 if last else 0} frames of the source, {len(answers)} answers")
    rows = {
        "age": ages_ms,
        "capture (decode)": [answer.latency_ms.decode for answer in answers],
        "preprocess and invoke": [answer.latency_ms.preprocess + answer.latency_ms.invoke for answer in answers],
        "age beyond capture, preprocess and invoke of the same answer": waits_ms,
    }
    p99_ms = {}
    for name, values in rows.items():
        p50, p99_ms[name], most = np.percentile(values, [50, 99, 100])
        print(f"{name}: p50 {p50:.1f} ms, p99 {p99_ms[name]:.1f} ms, most {most:.1f} ms")
    limit_ms = 1e3 / _FPS + p99_ms["capture (decode)"] + p99_ms["preprocess and invoke"]
    print(f"one frame period + capture + preprocess and invoke, by their p99: {limit_ms:.1f} ms")


def _decoded(video: str, count: int) -> list[ImageU8]:
    source = open_source(video, CaptureOptions(loop=True))
    frames = (item for item in source.frames() if isinstance(item, Frame))
    images = [frame.image_hwc_rgb_u8.copy() for frame in itertools.islice(frames, count)]
    source.close()
    return images


def _bare(classifier: Classifier, images: list[ImageU8]) -> tuple[float, float]:
    started = _clocks()
    for image in images:
        classifier.engine.invoke(classifier.prepare(image)[np.newaxis])
    return _since(started)


def _loop(classifier: Classifier, images: list[ImageU8]) -> tuple[float, float]:
    health, sink = Health(), JsonlSink(io.StringIO())
    started = _clocks()
    for result, image in classify_frames(FakeSource(images), classifier, _decider(classifier), top_k=3):
        health.add(result)
        sink.write(result, image)
    return _since(started)


def _clocks() -> tuple[float, float]:
    """Read the wall and processor clocks in seconds."""
    return time.perf_counter(), time.process_time()


def _since(started: tuple[float, float]) -> tuple[float, float]:
    wall_s, processor_s = _clocks()
    return wall_s - started[0], processor_s - started[1]


def _decider(classifier: Classifier) -> Decider:
    smoothing = parse_smoothing("3/5", classifier.output_spec)
    return Decider(classifier.labels, smoothing, DecisionRule(min_interval_s=1.0))


if __name__ == "__main__":
    main()
