"""Where ``edge-run classify`` finds its images, and what it shows on the way."""

import json
import os
import pty
import signal
import subprocess
import sys

import numpy as np
import pytest

from edge_runtime.contract import Head, OutputSpec
from edge_runtime.pipeline.folder import classify_file
from edge_runtime.progress import Throttle
from edge_runtime.results import Classified
from edge_runtime.testing import fake_classifier
from support.images import plain_image, write_image

EDGE_RUN = [sys.executable, "-m", "edge_runtime.cli"]
DEADLINE_S = 120


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for name in ("a.png", "deep/b.png", "deep/c d.png"):
        write_image(tmp_path / "photos" / name, plain_image((20, 20, 200), 20, 30))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def sources(out):
    return [json.loads(line)["source"] for line in out.splitlines()]


def test_patterns_and_lists_are_inputs_too(edge_run, tiny_bundle, photos):
    code, out, _ = edge_run("classify", tiny_bundle, "photos/**/*.png", "--format", "jsonl")
    assert (code, sources(out)) == (0, ["photos/a.png", "photos/deep/b.png", "photos/deep/c d.png"])
    listed = photos.parent / "list.txt"
    listed.write_text("photos/deep\nphotos/none.png\n", encoding="utf-8")
    code, out, _ = edge_run("classify", tiny_bundle, "photos/a.png", "--list", listed, "--format", "jsonl")
    assert code == 1
    assert sources(out) == ["photos/a.png", "photos/deep/b.png", "photos/deep/c d.png", "photos/none.png"]


@pytest.mark.parametrize("arguments", [["-"], ["--list", "-"]])
@pytest.mark.parametrize("null", [False, True])
def test_standard_input_is_a_list(tiny_bundle, photos, arguments, null):
    separator = b"\0" if null else b"\n"
    listed = b"photos/deep/c d.png" + separator + b"photos/a.png" + separator
    command = [*EDGE_RUN, "classify", tiny_bundle, *arguments, "--format", "jsonl", *(["-0"] if null else [])]
    done = subprocess.run(command, input=listed, capture_output=True, check=True, timeout=DEADLINE_S, cwd=photos.parent)
    assert sources(done.stdout.decode()) == ["photos/deep/c d.png", "photos/a.png"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_row_is_written_as_soon_as_its_path_is_read(tiny_bundle, photos, workers):
    command = [*EDGE_RUN, "classify", tiny_bundle, "-", "--format", "jsonl", "--workers", workers]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=photos.parent)
    assert process.stdin and process.stdout  # noqa: PT018
    for _ in range(3):
        process.stdin.write(b"photos/a.png\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["label"] == "red"
    # The list goes on; Ctrl-C must not wait for its next line.
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_S) == 130
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "expected PATH... or --list FILE"),
        (["photos", "-0"], 2, "--null"),
        (["-", "--list", "list.txt"], 2, "give one of the two"),
        (["photos", "--only-new"], 2, "goes with --watch"),
        (["-", "--watch"], 2, "expected folders, got a list"),
        (["photos/a.png", "--watch"], 2, "expected a folder to watch"),
        (["--list", "none.txt"], 3, "none.txt: the list of paths cannot be read (No such file or directory)"),
        (["--list", "photos"], 3, "got a folder"),
        (["--list", "/dev/null"], 3, "the list holds no paths"),
        (["photos/*.webp"], 3, "photos/*.webp: matches nothing"),
    ],
)
def test_inputs_that_cannot_be_used_are_one_sentence(edge_run, tiny_bundle, photos, arguments, code, says):
    assert photos.is_dir()
    found, out, err = edge_run("classify", tiny_bundle, *arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert says in err


def run_on_terminal(command):
    """Run a command whose standard error is a terminal; exit code and what the terminal got."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=terminal, stdin=subprocess.DEVNULL)
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(master, 1 << 16):
            shown += block
    except OSError:  # the terminal has no other end any more
        pass
    os.close(master)
    return process.wait(DEADLINE_S), shown.decode()


def test_a_terminal_sees_a_bar_with_count_and_rate(tiny_bundle, photos, tmp_path):
    paths = [photos / "a.png"] * 60
    command = [*EDGE_RUN, "classify", tiny_bundle, *paths, "--output", tmp_path / "rows.csv"]
    code, shown = run_on_terminal(command)
    assert (code, "60/60" in shown) == (0, True)
    assert "/s" in shown.partition("60 images in ")[0]
    listed = tmp_path / "list.txt"
    listed.write_text(f"{photos}\n", encoding="utf-8")
    command = [*EDGE_RUN, "classify", tiny_bundle, "--list", listed, "--output", tmp_path / "of_list.csv"]
    code, shown = run_on_terminal(command)
    assert (code, "3 images in " in shown) == (0, True)


def test_a_bar_is_drawn_seldom_and_loses_nothing():
    passed = []
    throttle = Throttle(passed.append, every_s=3600)
    for _ in range(1000):
        throttle.add(1)
    assert passed == []
    throttle.flush()
    assert passed == [1000]
    eager = Throttle(passed.append, every_s=0)
    eager.add(2)
    assert passed == [1000, 2]


@pytest.mark.parametrize(("threshold", "rejected"), [(0.0, False), (0.6, True), (0.4, False)])
def test_an_answer_under_the_reject_threshold_is_rejected(photos, threshold, rejected):
    write_image(photos / "half.png", np.repeat(plain_image([[0], [255]], 20, 2), 10, axis=1))
    classifier = fake_classifier()
    classifier.output_spec = OutputSpec(Head.SOFTMAX, 0.0, threshold)
    result = classify_file(classifier, photos / "half.png", 1)
    assert isinstance(result, Classified)
    assert (result.top[0].score, result.rejected) == (pytest.approx(0.5), rejected)
