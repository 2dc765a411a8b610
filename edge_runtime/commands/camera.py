"""Command ``edge-run camera``: classify frames and write to every sink until the end, a limit, Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from edge_runtime.cli_support import choose_format, note, output_stream, require_extra, write_errors
from edge_runtime.commands.camera_options import CameraJob
from edge_runtime.commands.options import ModelChoice
from edge_runtime.errors import UsageError
from edge_runtime.pipeline.camera import FrameResult, classify_frames
from edge_runtime.pipeline.decide import Decider
from edge_runtime.pipeline.health import Health, SinkHealth, Snapshot
from edge_runtime.platform.process import Interrupts, collect_as_usual, core_count
from edge_runtime.results import Classified, StateChange
from edge_runtime.service.notify import Notifier
from edge_runtime.sinks.base import MonitoredSink, Sink
from edge_runtime.sinks.rows import open_frame_sink
from edge_runtime.sources.base import CaptureOptions
from edge_runtime.sources.opening import open_source
from edge_runtime.text import escape, parse_bytes

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier

_CHECK_EVERY_S = 5.0
_WARN_AGAIN_AFTER_S = 60.0
_UNSURE_BELOW = 0.5  # score of an image worth labelling, where neither the user nor the model sets a threshold


def run_camera(choice: ModelChoice, job: CameraJob) -> None:
    """Classify frames and pass each answer to every sink at once; a summary follows on standard error.

    Ctrl-C and SIGTERM are how a camera is stopped, so they end the run normally.

    Raises:
        SourceError: The source cannot be opened or read.
        OutputError: Cannot open standard output, a file, folder or port.
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
                sinks = _open_sinks(job, classifier, health, stack, live=source.live)
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


def _pass_on(
    results: Iterator[FrameResult], sinks: list[Sink], health: Health, notifier: Notifier, interrupts: Interrupts
) -> None:
    # On a terminal the updating line shows problems, and another line would break it.
    problems = None if sys.stdout.isatty() else ProblemLog(health)
    for result, image_hwc_rgb_u8 in results:
        with interrupts.held():
            health.add(result)
            with write_errors():
                for sink in sinks:
                    sink.write(result, image_hwc_rgb_u8)
            if isinstance(result, Classified):
                # Only an answer proves that camera, model and sinks work.
                notifier.alive()
            elif isinstance(result, StateChange):
                notifier.status(f"{result.state.value}{f': {result.reason}' if result.reason else ''}")
            if problems:
                problems.check()


def _first(results: Iterator[FrameResult], answers: int | None) -> Iterator[FrameResult]:
    """Yield results up to a number of answers; changes of the source do not count."""
    left = answers
    for item in results:
        yield item
        if left is not None and isinstance(item[0], Classified):
            left -= 1
            if left == 0:
                return


def _sum_up(health: Health, how: str = "") -> None:
    snapshot = health.snapshot()
    note(f"{snapshot}{how}")
    for line in _losses(snapshot):
        note(line)


def _losses(snapshot: Snapshot) -> Iterator[str]:
    """Yield a warning for each sink that has lost results or has a problem at the end of a run."""
    for sink in snapshot.sinks:
        lost = f"{sink.dropped} result{'' if sink.dropped == 1 else 's'} not passed on" if sink.dropped else ""
        problem = escape(sink.problem) if sink.problem else ""
        if lost or problem:
            yield f"warning: {sink.name}: {f'{lost} ({problem})' if lost and problem else lost or problem}"


class ProblemLog:
    """Notes about a sink's problem when it begins and when it is over, at most once a minute each.

    Args:
        health: Health of the run.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        # The first check comes later, since a broker needs a moment to be connected.
        self._next_check_s = time.monotonic() + _CHECK_EVERY_S
        self._warned: set[str] = set()
        self._warn_again_s: dict[str, float] = {}

    def check(self) -> None:
        """Print what is new, if a check is due; call it for each result."""
        now_s = time.monotonic()
        if now_s < self._next_check_s:
            return
        self._next_check_s = now_s + _CHECK_EVERY_S
        for sink in self._health.snapshot().sinks:
            self._check_sink(sink, now_s)

    def _check_sink(self, sink: SinkHealth, now_s: float) -> None:
        if sink.problem is None:
            if sink.name in self._warned:
                self._warned.discard(sink.name)
                note(f"{sink.name}: works again")
        elif sink.name not in self._warned and now_s >= self._warn_again_s.get(sink.name, 0.0):
            self._warned.add(sink.name)
            self._warn_again_s[sink.name] = now_s + _WARN_AGAIN_AFTER_S
            note(f"warning: {sink.name}: {escape(sink.problem)}")


def _open_sinks(
    job: CameraJob, classifier: Classifier, health: Health, stack: contextlib.ExitStack, *, live: bool
) -> list[Sink]:
    """Open all sinks before the camera starts, so that an error ends the run at once.

    Args:
        job: Options of the run.
        classifier: Classifier whose answers the sinks get.
        health: Health of the run, which then includes the monitored sinks.
        stack: Exit stack that closes the sinks.
        live: True if frames come from a camera, which must not wait for a disk.

    Raises:
        MissingExtraError: A sink's package is not installed.
        OutputError: Cannot open a file, folder or port.
        UsageError: An option has an invalid value.
    """
    name = job.name or platform.node() or "edgekit"
    sinks: list[Sink] = []
    openers: list[tuple[object, Callable[[], Sink]]] = [
        (job.output, lambda: _output(job, classifier.labels, live=live)),
        (job.save_frames, lambda: _save_frames(job, classifier)),
        (job.webhook, lambda: _webhook(job, name)),
        (job.mqtt, lambda: _mqtt(job, classifier, health, name)),
        (job.web, lambda: _web(job, classifier.labels, health, name)),
    ]
    for wanted, opened in openers:
        if wanted is not None:
            sinks.append(opened())
            stack.callback(sinks[-1].close)
    health.watch([sink for sink in sinks if isinstance(sink, MonitoredSink)])
    return sinks


def _output(job: CameraJob, labels: Sequence[str], *, live: bool) -> Sink:
    from edge_runtime.sinks.files import open_file_sink

    assert job.output is not None  # noqa: S101
    format_name = choose_format(None, job.output, "jsonl")
    max_bytes = _bytes("--rotate", job.rotate)
    return open_file_sink(
        job.output, format_name, labels, job.top_k, every=job.every, max_bytes=max_bytes, keep=job.keep, live=live
    )


def _save_frames(job: CameraJob, classifier: Classifier) -> MonitoredSink:
    from edge_runtime.sinks.save_frames import SaveChoice, open_save_frames

    assert job.save_frames is not None  # noqa: S101
    threshold = job.threshold
    if threshold is None:
        threshold = classifier.output_spec.reject_threshold or _UNSURE_BELOW
    return open_save_frames(
        job.save_frames,
        classifier.labels,
        choices=set(SaveChoice) if job.save == "both" else {SaveChoice(job.save)},
        threshold=threshold,
        min_interval_s=job.save_interval_s,
        quota_bytes=_bytes("--save-quota", job.save_quota),
    )


def _webhook(job: CameraJob, name: str) -> MonitoredSink:
    from edge_runtime.sinks.webhook import WebhookSink

    assert job.webhook is not None  # noqa: S101
    return WebhookSink.open(job.webhook, name=name)


def _mqtt(job: CameraJob, classifier: Classifier, health: Health, name: str) -> MonitoredSink:
    from edge_runtime.sinks.mqtt.options import parse_mqtt_url, with_password

    assert job.mqtt is not None  # noqa: S101
    require_extra("edge-run camera --mqtt", "mqtt", "paho")
    from edge_runtime.sinks.mqtt.sink import MqttSink

    asked = parse_mqtt_url(job.mqtt)
    if asked.password:
        note("note: everybody on this machine can see the password in --mqtt; EDGEKIT_MQTT_PASSWORD hides it")
    options = with_password(asked, job.mqtt_password_file)
    discovery_prefix = options.discovery_prefix if job.discovery else None
    options = dataclasses.replace(options, ca_file=job.mqtt_ca, discovery_prefix=discovery_prefix)
    manifest = classifier.model.manifest
    model = manifest.model_name if manifest else classifier.model.path.stem
    return MqttSink(options, name=name, labels=classifier.labels, health=health, model=model)


def _web(job: CameraJob, labels: Sequence[str], health: Health, name: str) -> MonitoredSink:
    from edge_runtime.sinks.web.auth import choose_token, parse_frame_ancestors, parse_web_address, sign_in_url
    from edge_runtime.sinks.web.sink import WebSink

    assert job.web is not None  # noqa: S101
    address = parse_web_address(job.web)
    token = choose_token(address, job.web_token_file)
    sink = WebSink(
        address,
        name=name,
        labels=labels,
        health=health,
        token=token.text if token else None,
        frame_ancestors=parse_frame_ancestors(job.web_frame_ancestors or ""),
    )
    note(f"live page: {sign_in_url(sink.url, token)}")
    return sink


def _bytes(option: str, text: str) -> int:
    try:
        count = parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from error
    if count == 0:
        raise UsageError(f"{option} {text}: expected a size above 0, such as 100MB")
    return count


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
    """Run one inference before systemd gets READY: the first is slower, and a model that cannot run fails here."""
    import numpy as np

    classifier.probabilities(np.zeros(classifier.input_spec.shape_hwc, np.uint8))
