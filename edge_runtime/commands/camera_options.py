"""Options of ``edge-run camera``, gathered into a `CameraJob`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edge_runtime.commands.model_choice import ModelChoice
from edge_runtime.errors import UsageError


@dataclass(frozen=True)
class CameraJob:
    """The options of ``edge-run camera``, one field each, as `edge_runtime.commands.camera_options` names them.

    Attributes:
        source: Camera, stream or video as typed.
        size: ``WIDTHxHEIGHT`` to ask a camera for, or None.
        fps: Frames per second to ask a camera for, or None.
        pixel_format: ``mjpeg``, ``yuyv`` ... to ask a camera for, or None.
        realtime, loop, wait, stall_timeout_s: See `edge_runtime.sources.base.CaptureOptions`.
        smooth: See `edge_runtime.pipeline.decide.parse_smoothing`.
        threshold: Score under which there is no decision; None takes the model's own.
        ignore: Labels that mean "nothing there".
        min_interval_s: Least seconds between two events.
        format: ``text``, ``jsonl`` or ``csv`` on standard output.
        every: ``frame`` or ``event``: what standard output and the output file get.
        output: File to append to, or None.
        rotate: Size from which the output file is put aside, such as ``100MB``.
        keep: How many files that were put aside are kept.
        save_frames: Folder for images, or None.
        save: Which images: ``event``, ``uncertain`` or ``both``.
        save_quota: Size of all saved images together, such as ``1GB``.
        save_interval_s: Least seconds between two saved images.
        mqtt: URL of a broker, or None.
        mqtt_ca: File with the certificate authority of the broker, or None.
        mqtt_password_file: File with the password, or None.
        discovery: Whether Home Assistant is told of the camera through the broker.
        webhook: URL to post events to, or None.
        web: ``HOST:PORT`` of the live page, or None.
        web_token_file: File with the page's token, or None.
        name: What this camera is called elsewhere; None takes the host's name.
        max_frames: Answers after which it ends, or None.
        duration_s: Seconds after which it ends, or None.
        top_k: Predictions for each frame.
        threads: Threads inside one inference; 0 means one per core.
    """

    source: str
    size: str | None
    fps: float | None
    pixel_format: str | None
    realtime: bool
    loop: bool
    wait: bool
    stall_timeout_s: float
    smooth: str
    threshold: float | None
    ignore: tuple[str, ...]
    min_interval_s: float
    format: str
    every: str
    output: Path | None
    rotate: str
    keep: int
    save_frames: Path | None
    save: str
    save_quota: str
    save_interval_s: float
    mqtt: str | None
    mqtt_ca: Path | None
    mqtt_password_file: Path | None
    discovery: bool
    webhook: str | None
    web: str | None
    web_token_file: Path | None
    name: str | None
    max_frames: int | None
    duration_s: float | None
    top_k: int
    threads: int


_MOST_THREADS = 256
"""Far above any board's cores; native runtimes crash on a million."""

_GOES_WITH = {
    "rotate": "output",
    "keep": "output",
    "save": "save_frames",
    "save_quota": "save_frames",
    "save_interval_s": "save_frames",
    "web_token_file": "web",
    "mqtt_ca": "mqtt",
    "mqtt_password_file": "mqtt",
    "discovery": "mqtt",
}


class _Number(click.FloatRange):
    """A range without "nan", which compares with nothing, and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_PATH = click.Path(path_type=Path)
_SECONDS = _Number(min=0)
_CAPTURE = (
    click.option(
        "--source",
        envvar="EDGEKIT_SOURCE",
        default="0",
        show_default=True,
        metavar="SOURCE",
        help="Camera as 0 or /dev/video0, picamera, an rtsp:// or http:// address, or a video file.",
    ),
    click.option("--size", metavar="WxH", help="Image size to ask a camera for, such as 1280x720."),
    click.option("--fps", type=_Number(min=0, min_open=True), metavar="N", help="Frames a second to ask a camera for."),
    click.option("--pixel-format", metavar="NAME", help="Pixel format to ask a camera for, such as mjpeg or yuyv."),
    click.option("--realtime", is_flag=True, help="Play a video file at its own pace, skipping as with a camera."),
    click.option("--loop", is_flag=True, help="Start a video file again at its end."),
    click.option("--wait", is_flag=True, help="Wait for a camera that is not there at the start."),
    click.option(
        "--stall-timeout",
        "stall_timeout_s",
        type=_Number(min=0.1),
        default=5.0,
        show_default=True,
        metavar="S",
        help="Open a camera again that gives no frame for so many seconds.",
    ),
)
_DECIDE = (
    click.option(
        "--smooth",
        default="3/5",
        show_default=True,
        metavar="K/N|WEIGHT|none",
        help="Decide by K of the last N frames, or by an average with this weight of the newest.",
    ),
    click.option(
        "--threshold",
        type=_Number(0, 1),
        metavar="P",
        help="Score under which nothing is decided [default: the model's own].",
    ),
    click.option("--ignore", multiple=True, metavar="LABEL", help="A label that means: nothing there. Repeatable."),
    click.option(
        "--min-interval",
        "min_interval_s",
        type=_SECONDS,
        default=1.0,
        show_default=True,
        metavar="S",
        help="Least seconds between two events.",
    ),
)
_OUTPUT = (
    click.option(
        "--format",
        type=click.Choice(["text", "jsonl", "csv"]),
        default="text",
        show_default=True,
        help="Form of the lines on standard output.",
    ),
    click.option(
        "--every",
        type=click.Choice(["frame", "event"]),
        default="frame",
        show_default=True,
        help="Write a line for every frame, or for events and changes of the camera only.",
    ),
    click.option("--output", type=_PATH, help="Append to this file too, JSON lines or .csv by its name."),
    click.option("--rotate", default="100MB", show_default=True, metavar="SIZE", help="Put --output aside at a size."),
    click.option(
        "--keep",
        type=click.IntRange(min=1),
        default=5,
        show_default=True,
        metavar="N",
        help="How many of these to keep.",
    ),
    click.option("--save-frames", type=_PATH, metavar="DIR", help="Save images as DIR/LABEL/*.jpg."),
    click.option(
        "--save",
        type=click.Choice(["event", "uncertain", "both"]),
        default="event",
        show_default=True,
        help="Which images: of events, those to label and train on, or both.",
    ),
    click.option("--save-quota", default="1GB", show_default=True, metavar="SIZE", help="Remove the oldest above it."),
    click.option(
        "--save-interval",
        "save_interval_s",
        type=_SECONDS,
        default=1.0,
        show_default=True,
        metavar="S",
        help="Least seconds between two images.",
    ),
)
_NETWORK = (
    click.option("--web", metavar="[HOST:]PORT", help="Serve a live page; on this machine only unless HOST says more."),
    click.option("--web-token-file", type=_PATH, help="Token of the page [default: EDGEKIT_WEB_TOKEN, else made up]."),
    click.option("--mqtt", metavar="URL", help="Publish to a broker: mqtt://[USER@]HOST[:PORT][/PREFIX], or mqtts://."),
    click.option("--mqtt-ca", type=_PATH, help="Certificate authority of the broker."),
    click.option("--mqtt-password-file", type=_PATH, help="Password [default: EDGEKIT_MQTT_PASSWORD]."),
    click.option("--discovery/--no-discovery", default=True, help="Tell Home Assistant through the broker."),
    click.option(
        "--webhook",
        envvar="EDGEKIT_WEBHOOK",
        metavar="URL",
        help="POST events and changes of the camera here, as JSON.",
    ),
    click.option("--name", help="What the camera is called there [default: this machine's name]."),
)
_RUN = (
    click.option("--max-frames", type=click.IntRange(min=1), metavar="N", help="Stop after N answers."),
    click.option(
        "--duration", "duration_s", type=_Number(min=0, min_open=True), metavar="S", help="Stop after S seconds."
    ),
    click.option(
        "--top-k",
        type=click.IntRange(min=1),
        default=3,
        show_default=True,
        metavar="K",
        help="Predictions for each frame.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(0, _MOST_THREADS),
        default=0,
        metavar="N",
        help="Threads inside one inference [default: one per core].",
    ),
)


def camera_options(function: Callable[[ModelChoice, CameraJob], Any]) -> Callable[..., Any]:
    """The options above, given to the command as a `CameraJob` after the model's."""

    def command(choice: ModelChoice, **options: Any) -> Any:

        _refuse_lonely(click.get_current_context(), options)
        return function(choice, CameraJob(**options))

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    decorated: Callable[..., Any] = command
    for option in reversed((*_CAPTURE, *_DECIDE, *_OUTPUT, *_NETWORK, *_RUN)):
        decorated = option(decorated)
    return decorated


def _refuse_lonely(context: click.Context, options: Mapping[str, Any]) -> None:
    """An option that would do nothing is a mistake, which its user should hear of."""
    for name, other in _GOES_WITH.items():
        if options[other] is None and context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            flags = {parameter.name: max(parameter.opts, key=len) for parameter in context.command.params}
            raise UsageError(f"{flags[name]}: goes with {flags[other]}, which is missing")
