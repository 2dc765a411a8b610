"""``edge-run camera`` on video files: rows, limits, and a clean stop in the middle."""

import csv
import io
import json
import re
import signal
import subprocess
import sys

import pytest

from support.images import plain_image, write_video
from support.programs import run

CAMERA = [sys.executable, "-m", "edge_runtime.cli", "camera"]
COLORS_BGR = {"red": (20, 20, 200), "green": (20, 200, 20), "blue": (200, 20, 20)}


def write_colors(path, rounds, codec):
    """Write a video that is red, green, blue, and so on, one frame each."""
    frames = [plain_image(color_bgr, 32, 32) for color_bgr in COLORS_BGR.values()]
    return write_video(path, frames * rounds, 25, codec)


@pytest.fixture(scope="module")
def long_video(tmp_path_factory):
    """More frames than fit into a pipe as lines, so that a run is stopped in its middle."""
    return write_colors(tmp_path_factory.mktemp("videos") / "long.avi", 2000, "MJPG")


def run_camera(*arguments):
    return run(*CAMERA, *arguments)


@pytest.mark.parametrize(("name", "codec"), [("v.avi", "MJPG"), ("v.mp4", "mp4v")])
def test_every_frame_of_a_file_is_a_line_until_its_end(tmp_path, tiny_bundle, name, codec):
    video = write_colors(tmp_path / name, 4, codec)
    done = run_camera(tiny_bundle, "--source", video, "--format", "jsonl")
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["frame"] for record in records] == list(range(12))
    assert [record["label"] for record in records] == [*COLORS_BGR] * 4
    assert records[5]["time_s"] == pytest.approx(0.2)
    assert set(records[0]["latency_ms"]) == {"decode", "preprocess", "invoke"}
    assert done.stderr.startswith("12 frames in ")
    assert done.stderr.count("\n") == 1


def test_text_and_csv_stop_at_the_limit(tiny_bundle, long_video):
    done = run_camera(tiny_bundle, "--source", long_video, "--max-frames", "2")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("00:00:00.000  frame      0  red ")
    assert second.startswith("00:00:00.040  frame      1  green ")
    done = run_camera(tiny_bundle, "--source", long_video, "--max-frames", "2", "--format", "csv", "--top-k", "9")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["label"] for row in rows] == ["red", "green"]
    assert ("label_3" in rows[0], "label_4" in rows[0]) == (True, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_in_the_middle_is_clean(tiny_bundle, long_video, number):
    program = [*CAMERA, str(tiny_bundle), "--source", str(long_video), "--format", "jsonl"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    first = "".join(process.stdout.readline() for _ in range(3))
    process.send_signal(number)
    # Not communicate(), which would lose what readline has buffered.
    out, err = process.stdout.read(), process.stderr.read()
    assert process.wait(60) == 0
    frames = [json.loads(line)["frame"] for line in (first + out).splitlines()]
    assert frames == list(range(len(frames)))
    assert 3 <= len(frames) < 6000
    assert re.fullmatch(rf"{len(frames)} frames in .*p50 age.*, stopped\n", err)


@pytest.mark.parametrize(
    ("source", "code", "says"),
    [
        ("none.mp4", 6, "no such video"),
        ("99", 6, "check that it is plugged in"),
        ("rtsp://me:secret@127.0.0.1:1/x", 6, "rtsp://me:***@127.0.0.1:1/x: cannot be opened"),
        ("picamera", 6, "picamera2"),
    ],
)
def test_a_source_that_does_not_open_is_one_sentence(tiny_bundle, source, code, says):
    done = run_camera(tiny_bundle, "--source", source)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
