"""Body of ``edge-run camera``: frames in, answers out to every sink, until the end, a limit, Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge_runtime.cli_support import note
from edge_runtime.commands.camera_job import CameraJob
from edge_runtime.commands.camera_sinks import open_sinks
from edge_runtime.commands.model_choice import ModelChoice
from edge_runtime.commands.output import Interrupts, output_stream, write_errors
from edge_runtime.commands.sink_trouble import TroubleLog, losses
from edge_runtime.cores import core_count
from edge_runtime.errors import UsageError
from edge_runtime.garbage import collect_as_usual
from edge_runtime.health import Health
from edge_runtime.notify import Notifier
from edge_runtime.pipeline.camera import FrameResult, classify_frames
from edge_runtime.pipeline.decide import Decider
from edge_runtime.results import Classified, StateChange
from edge_runtime.sinks.base import Sink
from edge_runtime.sinks.opening import open_frame_sink
from edge_runtime.sources.frames import CaptureOptions
from edge_runtime.sources.opening import open_source

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier


def run_camera(choice: ModelChoice, job: CameraJob) -> None:
    """Classify frames and give each answer to every sink at once; a summary follows on standard error.

    Ctrl-C and SIGTERM are how a camera is stopped, so they end the run well.

    Raises:
        SourceError: The source cannot be opened or read.
        OutputError: Standard output, or what a sink needs to begin with, cannot be had.
        EdgeKitError: The model cannot be used.
    """
    health, notifier = Health(), Notifier.from_environment()
    with Interrupts() as interrupts:
        try:
            with contextlib.ExitStack() as stack:
                source = open_source(job.source, _capture_options(job))
                stack.callback(source.close)
                classifier = stack.enter_context(choice.opener(job.threads or core_count())())
                decider = Decider.of(
                    classifier,
                    job.smooth,
                    threshold=job.threshold,
                    ignored=job.ignore,
                    min_interval_s=job.min_interval_s,
                )
                sinks = open_sinks(job, classifier, health, stack, live=source.live)
                sinks.append(_console(job, classifier, health, stack))
                _warm_up(classifier)
                collect_as_usual()
                notifier.ready()
                until_s = None if job.duration_s is None else time.perf_counter() + job.duration_s
                results = classify_frames(source, classifier, decider, top_k=job.top_k, until_s=until_s)
                _pass_on(_first(results, job.max_frames), sinks, health, notifier, interrupts)
        except KeyboardInterrupt:
            _sum_up(health, ", stopped")
            return
        finally:
            notifier.stopping()
    _sum_up(health)


def _sum_up(health: Health, how: str = "") -> None:
    snapshot = health.snapshot()
    note(f"{snapshot}{how}")
    for line in losses(snapshot):
        note(line)


def _pass_on(
    results: Iterator[FrameResult], sinks: list[Sink], health: Health, notifier: Notifier, interrupts: Interrupts
) -> None:
    # On a terminal the line that updates itself tells of trouble, and another one would tear it.
    trouble = None if sys.stdout.isatty() else TroubleLog(health)
    for result, image_hwc_rgb_u8 in results:
        with interrupts.held():
            health.add(result)
            with write_errors():
                for sink in sinks:
                    sink.write(result, image_hwc_rgb_u8)
            if isinstance(result, Classified):
                # Only an answer proves that camera, model and sinks work; a process that merely lives does not.
                notifier.alive()
            elif isinstance(result, StateChange):
                notifier.status(f"{result.state.value}{f': {result.reason}' if result.reason else ''}")
            if trouble:
                trouble.look()


def _first(results: Iterator[FrameResult], answers: int | None) -> Iterator[FrameResult]:
    """The results up to a number of answers; changes of the source do not count."""
    left = answers
    for item in results:
        yield item
        if left is not None and isinstance(item[0], Classified):
            left -= 1
            if left == 0:
                return


def _console(job: CameraJob, classifier: Classifier, health: Health, stack: contextlib.ExitStack) -> Sink:
    stream = stack.enter_context(output_stream(None, overwrite=False, for_programs=job.format != "text"))
    with write_errors():
        sink = open_frame_sink(job.format, stream, classifier.labels, job.top_k, every=job.every, health=health)
    stack.callback(sink.close)
    return sink


def _capture_options(job: CameraJob) -> CaptureOptions:
    return CaptureOptions(
        size_wh=_parse_size(job.size) if job.size else None,
        fps=job.fps,
        pixel_format=job.pixel_format,
        realtime=job.realtime,
        loop=job.loop,
        wait=job.wait,
        stall_timeout_s=job.stall_timeout_s,
    )


def _parse_size(text: str) -> tuple[int, int]:
    size = re.fullmatch(r"([1-9][0-9]{0,4})[xX]([1-9][0-9]{0,4})", text)
    if not size:
        raise UsageError(f"--size {text}: expected WIDTHxHEIGHT in pixels, such as 1280x720")
    return int(size[1]), int(size[2])


def _warm_up(classifier: Classifier) -> None:
    """One inference before anything is promised: the first is slower, and a model that cannot run must say so now."""
    import numpy as np

    classifier.probabilities(np.zeros(classifier.input_spec.shape_hwc, np.uint8))
