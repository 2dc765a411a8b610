"""Which sinks ``edge-run camera`` was asked for, beside standard output."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from edge_runtime.cli_support import note, require_extra
from edge_runtime.commands.camera_job import CameraJob
from edge_runtime.commands.output import choose_format
from edge_runtime.errors import UsageError
from edge_runtime.health import Health
from edge_runtime.sinks.base import MonitoredSink, Sink
from edge_runtime.sizes import parse_bytes

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier

_UNSURE_BELOW = 0.5
"""Score under which a picture is worth a person's label, where neither the user nor the model says one."""


def open_sinks(
    job: CameraJob, classifier: Classifier, health: Health, stack: contextlib.ExitStack, *, live: bool
) -> list[Sink]:
    """Open them all, so that what cannot be had is said before the camera starts; ``stack`` closes them.

    Args:
        job: What was asked for.
        classifier: Whose answers they get.
        health: Of the run; it learns of the sinks that watch themselves.
        stack: Closes them.
        live: Whether frames come from a camera, which must not wait for a disk.

    Raises:
        MissingExtraError: A sink's package is not installed.
        OutputError: A file, folder or port cannot be had.
        UsageError: An option that cannot be understood.
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
    from edge_runtime.sinks.output_file import open_file_sink

    assert job.output is not None  # noqa: S101
    format_name = choose_format(None, job.output, "jsonl")
    max_bytes = _bytes("--rotate", job.rotate)
    return open_file_sink(
        job.output, format_name, labels, job.top_k, every=job.every, max_bytes=max_bytes, keep=job.keep, live=live
    )


def _save_frames(job: CameraJob, classifier: Classifier) -> MonitoredSink:
    from edge_runtime.sinks.saving.save_frames import Choice, open_save_frames

    assert job.save_frames is not None  # noqa: S101
    threshold = job.threshold
    if threshold is None:
        threshold = classifier.output_spec.reject_threshold or _UNSURE_BELOW
    return open_save_frames(
        job.save_frames,
        classifier.labels,
        choices=set(Choice) if job.save == "both" else {Choice(job.save)},
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
    from edge_runtime.sinks.web.address import parse_web_address
    from edge_runtime.sinks.web.sink import WebSink
    from edge_runtime.sinks.web.token import choose_token, sign_in_url

    assert job.web is not None  # noqa: S101
    address = parse_web_address(job.web)
    token = choose_token(address, job.web_token_file)
    sink = WebSink(address, name=name, labels=labels, health=health, token=token.text if token else None)
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
