"""Options of ``edge-run camera``. Each is declared here and nowhere else: field, type, help, check and service use."""

# ruff: noqa: RUF009  an option is a dataclass field, made by a function
from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli_support import Resource, declare


class _Number(click.FloatRange):
    """A range without "nan", which compares with nothing, and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


_PATH = click.Path(path_type=Path)
_SECONDS = _Number(min=0)
_ABOVE_0 = _Number(min=0, min_open=True)
_FROM_1 = click.IntRange(min=1)
_MOST_THREADS = 256  # far above any board's cores; native runtimes crash on a million

_source = partial(declare, "Source")
_decision = partial(declare, "Decision")
_rows = partial(declare, "Lines and files")
_network = partial(declare, "Network")
_run = partial(declare, "Run")


@dataclass(frozen=True, eq=False, repr=False)  # made at every start, compared never
class CameraJob:
    """Options of ``edge-run camera``, one field each; the help text of a field is its documentation."""

    source: str = _source(
        "--source",
        envvar="EDGEKIT_SOURCE",
        default="0",
        show_default=True,
        metavar="SOURCE",
        resource=Resource.SOURCE,
        help="Camera as 0 or /dev/video0, picamera, an rtsp:// or http:// address, or a video file.",
    )
    size: str | None = _source("--size", metavar="WxH", help="Image size to request from a camera, such as 1280x720.")
    fps: float | None = _source("--fps", type=_ABOVE_0, metavar="N", help="Frames per second to request from a camera.")
    pixel_format: str | None = _source(
        "--pixel-format", metavar="NAME", help="Pixel format to request from a camera, such as mjpeg or yuyv."
    )
    realtime: bool = _source(
        "--realtime", is_flag=True, help="Play a video file at its own pace, skipping frames like a camera."
    )
    loop: bool = _source("--loop", is_flag=True, help="Restart a video file at its end.")
    wait: bool = _source("--wait", is_flag=True, help="Wait for a camera that is missing at the start.")
    stall_timeout_s: float = _source(
        "--stall-timeout",
        type=_Number(min=0.1),
        default=5.0,
        show_default=True,
        metavar="S",
        help="Reopen a camera after S seconds without a frame.",
    )

    smooth: str = _decision(
        "--smooth",
        default="3/5",
        show_default=True,
        metavar="K/N|WEIGHT|none",
        help="Decide by K of the last N frames, or by a moving average with this weight of the newest.",
    )
    threshold: float | None = _decision(
        "--threshold", type=_Number(0, 1), metavar="P", help="Minimum score of a decision [default: the model's own]."
    )
    ignore: tuple[str, ...] = _decision(
        "--ignore", multiple=True, metavar="LABEL", help='Label that means "nothing there". Repeatable.'
    )
    min_interval_s: float = _decision(
        "--min-interval",
        type=_SECONDS,
        default=1.0,
        show_default=True,
        metavar="S",
        help="Minimum seconds between two events.",
    )

    format: str = _rows(
        "--format",
        type=click.Choice(["text", "jsonl", "csv"]),
        default="text",
        show_default=True,
        help="Format of the lines on standard output.",
    )
    every: str = _rows(
        "--every",
        type=click.Choice(["frame", "event"]),
        default="frame",
        show_default=True,
        help="Write a line for every frame, or only for events and changes of the camera.",
    )
    output: Path | None = _rows(
        "--output",
        type=_PATH,
        resource=Resource.WRITE_PATH,
        help="Also append to this file: CSV if it ends with .csv, else JSON lines.",
    )
    rotate: str = _rows(
        "--rotate",
        default="100MB",
        show_default=True,
        metavar="SIZE",
        goes_with="output",
        help="Start a new --output file at this size.",
    )
    keep: int = _rows(
        "--keep",
        type=_FROM_1,
        default=5,
        show_default=True,
        metavar="N",
        goes_with="output",
        help="Number of old --output files to keep.",
    )
    save_frames: Path | None = _rows(
        "--save-frames", type=_PATH, metavar="DIR", resource=Resource.WRITE_PATH, help="Save images as DIR/LABEL/*.jpg."
    )
    save: str = _rows(
        "--save",
        type=click.Choice(["event", "uncertain", "both"]),
        default="event",
        show_default=True,
        goes_with="save_frames",
        help="Images to save: those of events, uncertain ones to label and train on, or both.",
    )
    save_quota: str = _rows(
        "--save-quota",
        default="1GB",
        show_default=True,
        metavar="SIZE",
        goes_with="save_frames",
        help="Remove the oldest saved images above this total size.",
    )
    save_interval_s: float = _rows(
        "--save-interval",
        type=_SECONDS,
        default=1.0,
        show_default=True,
        metavar="S",
        goes_with="save_frames",
        help="Minimum seconds between two saved images.",
    )

    web: str | None = _network(
        "--web",
        metavar="[HOST:]PORT",
        resource=Resource.LISTEN_ADDRESS,
        help="Serve a live page; without HOST on this machine only.",
    )
    web_token_file: Path | None = _network(
        "--web-token-file",
        type=_PATH,
        goes_with="web",
        resource=Resource.SECRET_FILE,
        help="File with the page's token [default: EDGEKIT_WEB_TOKEN, else a random token].",
    )
    web_frame_ancestors: str | None = _network(
        "--web-frame-ancestors",
        metavar="ORIGINS",
        goes_with="web",
        help="Let pages of these origins, such as http://homeassistant.local:8123, show the live page in a frame.",
    )
    mqtt: str | None = _network(
        "--mqtt",
        metavar="URL",
        resource=Resource.REMOTE_ADDRESS,
        help="Publish to a broker: mqtt://[USER@]HOST[:PORT][/PREFIX], or mqtts://.",
    )
    mqtt_ca: Path | None = _network(
        "--mqtt-ca",
        type=_PATH,
        goes_with="mqtt",
        resource=Resource.READ_PATH,
        help="Certificate authority of the broker.",
    )
    mqtt_password_file: Path | None = _network(
        "--mqtt-password-file",
        type=_PATH,
        goes_with="mqtt",
        resource=Resource.SECRET_FILE,
        help="File with the broker's password [default: EDGEKIT_MQTT_PASSWORD].",
    )
    discovery: bool = _network(
        "--discovery/--no-discovery",
        default=True,
        goes_with="mqtt",
        help="Announce the camera to Home Assistant through the broker.",
    )
    webhook: str | None = _network(
        "--webhook",
        envvar="EDGEKIT_WEBHOOK",
        metavar="URL",
        resource=Resource.REMOTE_ADDRESS,
        help="POST events and changes of the camera to this URL, as JSON.",
    )
    name: str | None = _network("--name", help="Name of the camera there [default: the host name].")

    max_frames: int | None = _run("--max-frames", type=_FROM_1, metavar="N", help="Stop after N answers.")
    duration_s: float | None = _run("--duration", type=_ABOVE_0, metavar="S", help="Stop after S seconds.")
    top_k: int = _run(
        "--top-k", type=_FROM_1, default=3, show_default=True, metavar="K", help="Predictions for each frame."
    )
    threads: int = _run(
        "--threads",
        type=click.IntRange(0, _MOST_THREADS),
        default=0,
        metavar="N",
        help="Threads inside one inference [default: one per core].",
    )
