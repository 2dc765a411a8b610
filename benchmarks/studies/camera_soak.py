"""Growth of memory, files and threads of a camera that runs for a long time: the soak in RESULTS.md.

    python -m benchmarks.studies.camera_soak [--frames 200000]

Runs the real ``edge-run camera`` on a drawn video that is played as a camera of 1,000 frames a second, with every sink:
standard output, a rotated file, saved images under a small quota, a broker (where mosquitto is installed), a webhook
and the live page with a client that watches. Memory, open files and threads of the program and of its capture process
are read from outside, by /proc.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.studies.common import installed_program, write_video
from edge_runtime.testing import write_tiny_bundle

_VIDEO_FPS, _VIDEO_FRAMES, _SIZE_WH = 1000, 600, (160, 120)
_SAMPLE_S = 0.5
_WARM_UP = 0.2
"""Share of the frames that counts as warm-up: buffers, caches and queues reach their size in it."""


@dataclass(frozen=True)
class Sample:
    """Reading of /proc: frames answered before, then kB, files and threads of the program, kB of its children."""

    frames: int
    rss_kb: int
    files: int
    threads: int
    children_kb: int


@click.command()
@click.option("--frames", default=200_000, show_default=True, help="Frames to classify.")
def main(frames: int) -> None:
    """Run a camera, and compare its end with the time after its warm-up."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        bundle = write_tiny_bundle(folder / "tiny", size=64)
        write_video(folder / "clip.mp4", _drawn_frames(), _SIZE_WH, _VIDEO_FPS)
        port, hook_port = _free_port(), _free_port()
        stack.enter_context(_webhook_server(hook_port))
        command = [installed_program("edge-run"), "camera", bundle, "--source", folder / "clip.mp4"]
        command += ["--realtime", "--loop", "--format", "jsonl", "--max-frames", str(frames), "--min-interval", "0.2"]
        command += ["--output", folder / "results.csv", "--rotate", "5MB", "--keep", "2"]
        command += ["--save-frames", folder / "saved", "--save", "both", "--save-quota", "2MB"]
        command += ["--save-interval", "0.1", "--threads", "1"]
        command += ["--web", f"127.0.0.1:{port}", "--webhook", f"http://127.0.0.1:{hook_port}/"]
        command += [*_broker(stack, folder)]
        process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
        stack.callback(process.kill)
        samples = _watch(process, port)
        if process.wait() != 0:
            raise SystemExit(f"edge-run ended with {process.returncode}")
    _report(samples, frames)


def _watch(process: subprocess.Popen[bytes], port: int) -> list[Sample]:
    """Take samples until the program ends, while a client watches the page."""
    client = threading.Thread(target=_watch_page, args=(port, process), daemon=True)
    client.start()
    samples = []
    while process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError, http.client.HTTPException):
            answered = int(json.loads(_fetch(port, "/api/state"))["answered"])
            samples.append(_sample(process.pid, answered))
        time.sleep(_SAMPLE_S)
    return samples


def _sample(pid: int, frames: int) -> Sample:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    files, threads = (len(list(Path(f"/proc/{pid}/{kind}").iterdir())) for kind in ("fd", "task"))
    return Sample(frames, _rss_kb(str(pid)), files, threads, sum(_rss_kb(child) for child in children))


def _rss_kb(pid: str) -> int:
    """Read anonymous memory; pages of shared frames and of files are not leaks of the program."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def _fetch(port: int, path: str) -> bytes:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", path)
        return connection.getresponse().read()


def _watch_page(port: int, process: subprocess.Popen[bytes]) -> None:
    """Fetch the image and the metrics repeatedly, as a browser and a monitor do."""
    while process.poll() is None:
        for path in ("/frame.jpg", "/metrics"):
            with contextlib.suppress(OSError, http.client.HTTPException):
                _fetch(port, path)
        time.sleep(0.2)


def _report(samples: list[Sample], frames: int) -> None:
    warm = [sample for sample in samples if sample.frames >= _WARM_UP * frames]
    third = max(1, len(warm) // 3)
    print(f"{frames} frames, {len(samples)} samples, {len(warm)} of them after the first {_WARM_UP:.0%}")
    for name in ("rss_kb", "children_kb", "files", "threads"):
        values = np.array([getattr(sample, name) for sample in warm])
        first, last = np.median(values[:third]), np.median(values[-third:])
        print(
            f"{name}: first third {first:.0f}, last third {last:.0f}, growth {last - first:+.0f}, most {values.max()}"
        )


def _drawn_frames() -> Iterator[NDArray[np.uint8]]:
    """Draw a colour that changes from blue over green to red, so that events come."""
    rng = np.random.default_rng(0)
    for number in range(_VIDEO_FRAMES):
        image_hwc_bgr_u8 = rng.integers(0, 90, (_SIZE_WH[1], _SIZE_WH[0], 3), np.uint8)
        image_hwc_bgr_u8[:, :, number * 3 // _VIDEO_FRAMES] += 120
        yield image_hwc_bgr_u8


@contextlib.contextmanager
def _webhook_server(port: int) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


def _broker(stack: contextlib.ExitStack, folder: Path) -> list[str]:
    """Start a broker and give the options for it, none where mosquitto is not installed."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        print("mosquitto is not installed: without a broker")
        return []
    port = _free_port()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(process.kill)
    return ["--mqtt", f"mqtt://127.0.0.1:{port}/edgekit"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
