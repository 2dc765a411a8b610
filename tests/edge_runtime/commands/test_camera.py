"""Every option of ``edge-run camera`` has an effect, bad values are one sentence, and secrets stay secret."""

import csv
import importlib.util
import io
import json
import os
import re
import time

import pytest

from edge_runtime.sinks.frame_folder import HEAD_BYTES, read_comment
from edge_runtime.testing.cameras import FakeHttpCamera, steady_camera
from support.images import plain_image, write_video
from support.programs import run_module

NO_PAUSE = ("--min-interval", "0")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A second of red, one of green and one of blue, at ten frames a second."""
    red, green, blue = (plain_image(bgr, 32, 32) for bgr in ((20, 20, 200), (20, 200, 20), (200, 20, 20)))
    frames = [red] * 10 + [green] * 10 + [blue] * 10
    return write_video(tmp_path_factory.mktemp("videos") / "clip.avi", frames, fps=10)


@pytest.fixture
def rows(edge_run, tiny_bundle, clip):
    def run(*options):
        code, out, err = edge_run("camera", tiny_bundle, "--source", clip, "--format", "jsonl", *options)
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    return run


def events(rows):
    return [(row["frame"], row["decision"]["label"]) for row in rows if row["decision"]["event"]]


@pytest.mark.parametrize(
    ("smooth", "expected"),
    [
        ("none", [(0, "red"), (10, "green"), (20, "blue")]),
        ("3/5", [(2, "red"), (12, "green"), (22, "blue")]),
        ("5/5", [(4, "red"), (14, "green"), (24, "blue")]),
        ("0.2", [(0, "red"), (13, "green"), (22, "blue")]),
    ],
)
def test_smoothing_says_how_soon_a_change_counts(rows, smooth, expected):
    assert events(rows("--smooth", smooth, *NO_PAUSE)) == expected


def test_threshold_ignore_and_interval_leave_events_out(rows):
    plain = ("--smooth", "none")
    high = rows(*plain, "--threshold", "0.9")
    assert {row["decision"]["label"] for row in high} == {None}
    assert {row["label"] for row in high} == {"red", "green", "blue"}
    assert events(rows(*plain, *NO_PAUSE, "--ignore", "green")) == [(0, "red"), (20, "blue")]
    assert events(rows(*plain, *NO_PAUSE, "--ignore", "green", "--ignore", "red")) == [(20, "blue")]
    assert events(rows(*plain, "--min-interval", "1.5")) == [(0, "red"), (15, "green")]


def test_every_event_writes_nothing_else(rows, tmp_path):
    output = tmp_path / "out.csv"
    assert len(rows("--every", "event", *NO_PAUSE, "--output", output)) == 3
    with output.open(newline="") as file:
        assert [row["decision"] for row in csv.DictReader(file)] == ["red", "green", "blue"]


def test_limits_loop_and_top_k(rows):
    looped = rows("--loop", "--max-frames", "45", "--top-k", "2")
    assert [row["frame"] for row in looped] == list(range(45))
    assert {len(row["top"]) for row in looped} == {2}
    assert len(rows("--loop", "--duration", "0.5")) > 1


def test_realtime_keeps_the_pace_of_the_video(rows):
    began_s = time.monotonic()
    given = rows("--realtime")
    assert time.monotonic() - began_s > 2
    assert [row["state"] for row in given if "state" in row] == ["connected", "ended"]
    assert "label" in given[1]


def test_forms_of_standard_output(edge_run, tiny_bundle, clip):
    camera = ("camera", tiny_bundle, "--source", clip, "--max-frames", "2")
    assert "frame      1  red" in edge_run(*camera)[1]
    assert len(list(csv.DictReader(io.StringIO(edge_run(*camera, "--format", "csv")[1])))) == 2
    assert json.loads(edge_run(*camera, "--format", "jsonl")[1].splitlines()[1])["label"] == "red"


def test_output_is_put_aside_and_appended_to(rows, tmp_path):
    output = tmp_path / "out.jsonl"
    rows("--output", output, "--rotate", "2kB", "--keep", "2")
    names = [".out.jsonl.lock", "out.jsonl", "out.jsonl.1", "out.jsonl.2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    before = output.read_text()
    rows("--output", output, "--max-frames", "1")
    assert output.read_text().startswith(before)
    assert output.read_text().count("\n") == before.count("\n") + 1


def folders(root):
    return sorted(path.parent.name for path in root.glob("*/*.jpg"))


def test_images_of_the_chosen_kind_are_saved(rows, tmp_path):
    plain = ("--smooth", "none", *NO_PAUSE, "--save-interval", "0")
    rows(*plain, "--save-frames", tmp_path / "events")
    assert folders(tmp_path / "events") == ["blue", "green", "red"]
    rows(*plain, "--save-frames", tmp_path / "sure", "--save", "uncertain")
    assert folders(tmp_path / "sure") == []
    few = ("--save-interval", "1000")
    rows(*plain, *few, "--save-frames", tmp_path / "unsure", "--save", "uncertain", "--threshold", "0.9")
    assert folders(tmp_path / "unsure") == ["unsure-red"]
    rows(*plain, *few, "--save-frames", tmp_path / "both", "--save", "both")
    assert folders(tmp_path / "both") == ["red"]
    size = sum(path.stat().st_size for path in (tmp_path / "events").glob("*/*.jpg"))
    rows(*plain, "--save-frames", tmp_path / "quota", "--save-quota", str(size // 2))
    assert folders(tmp_path / "quota") == ["blue"]


def test_what_a_sink_lost_is_told_at_the_end(edge_run, tiny_bundle, clip, tmp_path):
    options = ("--save-frames", tmp_path / "saved", "--save-quota", "5")
    code, _, err = edge_run("camera", tiny_bundle, "--source", clip, *options)
    assert code == 0
    assert re.fullmatch(r"30 frames in .*\nwarning: save-frames: .*larger than the quota.*\n", err)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--smooth 1/9", "--smooth 1/9: expected"),
        ("--smooth 0", "--smooth 0: expected a weight"),
        ("--smooth nan", "--smooth nan: expected"),
        ("--threshold nan", "nan is not a finite number"),
        ("--threshold 1.1", "0<=x<=1"),
        ("--min-interval nan", "nan is not a finite number"),
        ("--min-interval -1", "x>=0"),
        ("--duration inf", "inf is not a finite number"),
        ("--duration 0", "x>0"),
        ("--max-frames 0", "x>=1"),
        ("--threads 1000000", "0<=x<=256"),
        ("--ignore cat", "--ignore cat: is no label"),
        ("--size 640", "--size 640: expected WIDTHxHEIGHT"),
        ("--fps 30", "--fps is for a camera"),
        ("--rotate 1parsec --output {out}", "--rotate expected a size"),
        ("--rotate 0 --output {out}", "--rotate 0: expected a size above 0"),
        ("--keep 0 --output {out}", "x>=1"),
        ("--save-quota 0 --save-frames {out}", "--save-quota 0: expected a size above 0"),
        ("--rotate 1MB", "--rotate: goes with --output"),
        ("--save both", "--save: goes with --save-frames"),
        ("--save-interval 3", "--save-interval: goes with --save-frames"),
        ("--mqtt-ca x", "--mqtt-ca: goes with --mqtt"),
        ("--web-token-file x", "--web-token-file: goes with --web"),
        ("--webhook ftp://x", "expected one such as https://"),
        ("--source gopher://me:geheim@x", "gopher://me:***@x: expected"),
    ],
)
def test_a_bad_value_is_one_sentence(edge_run, tiny_bundle, clip, tmp_path, options, says):
    words = options.format(out=tmp_path / "new").split()
    code, out, err = edge_run("camera", tiny_bundle, "--source", clip, *words)
    assert (code, out) == (2, "")
    assert says in err.splitlines()[-1]
    assert err.lower().count("error: ") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("aiohttp", "paho")),
    reason="aiohttp or paho-mqtt is not installed (extras web, mqtt)",
)
@pytest.mark.slow
def test_secrets_are_nowhere_to_be_seen(tiny_bundle, tmp_path):
    password = tmp_path / "password"
    password.write_text("geheim\n")
    output, saved = tmp_path / "out.jsonl", tmp_path / "saved"
    with FakeHttpCamera(steady_camera) as camera:
        address = camera.url.removeprefix("http://")
        environment = {
            "EDGEKIT_SOURCE": f"http://me:geheim@{address}?user=me&password=geheim",
            "EDGEKIT_WEBHOOK": "http://me:geheim@127.0.0.1:9/geheim?token=geheim",
            "EDGEKIT_WEBHOOK_SECRET": "geheim",
            "EDGEKIT_WEB_TOKEN": "geheim-geheim-geheim",
        }
        options = ["--output", output, "--save-frames", saved, "--save", "both", "--threshold", "0.9"]
        options += ["--web", "0.0.0.0:0", "--mqtt", "mqtt://me@127.0.0.1:9", "--mqtt-password-file", password]
        arguments = ("camera", tiny_bundle, *options, "--duration", "7")
        done = run_module("edge_runtime.cli", *arguments, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    assert "warning: mqtt: mqtt://me@127.0.0.1:9: " in done.stderr
    assert "warning: webhook: " in done.stderr
    notes = [read_comment(path.read_bytes()[:HEAD_BYTES]) for path in saved.glob("*/*.jpg")]
    assert notes
    for text in (done.stdout, done.stderr, output.read_text(), json.dumps(notes)):
        assert text
        assert "geheim" not in text


def test_a_service_without_lines_still_tells_its_errors(edge_run, tiny_bundle):
    code, unit, _ = edge_run("service", tiny_bundle, "--source", "0", "--output", "log.jsonl")
    assert code == 0
    assert {"StandardOutput=null", "StandardError=journal"} <= set(unit.splitlines())
