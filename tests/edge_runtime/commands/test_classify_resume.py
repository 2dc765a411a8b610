"""``--skip-done``: killed at any moment and started again, every image has exactly one row."""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from support.images import encode, noisy_images
from support.programs import run

EDGE_RUN = [sys.executable, "-m", "edge_runtime.cli"]
DEADLINE_S = 120
COUNT = 250


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Enough images that a kill comes in mid-run; one is text, and one has a name that must be escaped."""
    folder = tmp_path_factory.mktemp("many")
    image = encode(noisy_images(1, 200)[0], ".png")
    for number in range(COUNT):
        (folder / f"{number:03}.png").write_bytes(image)
    (folder / "007.png").write_text("no image")
    (folder / "009.png").rename(folder / os.fsdecode(b'odd \xff\n,".png'))
    return folder


def sources_of(output):
    text = output.read_text(encoding="utf-8")
    if output.suffix == ".csv":
        return [row["source"] for row in csv.DictReader(text.splitlines())]
    return [json.loads(line)["source"] for line in text.splitlines()]


def lines_of(output):
    return output.read_bytes().count(b"\n") if output.exists() else 0


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_killed_again_and_again_every_image_has_one_row(tiny_bundle, many, tmp_path, name):
    output = tmp_path / name
    command = [*EDGE_RUN, "classify", tiny_bundle, many, "--output", output, "--skip-done", "--workers", "2"]
    luck, kills = random.Random(1), 0
    for _ in range(3):
        wanted = lines_of(output) + luck.randint(5, 60)
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        deadline_s = time.monotonic() + DEADLINE_S
        while lines_of(output) < wanted and process.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.002)  # the other side needs the core
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 2
    # What a power cut leaves of a line; a kill hardly ever does, since each line is one write.
    with output.open("ab") as file:
        file.write(b'{"source": "/torn' if name.endswith("jsonl") else b'"/torn')
    done = run(*command)
    assert done.returncode == 0, done.stderr  # the one that fails was in an earlier run
    assert " done before" in done.stderr
    counted = Counter(sources_of(output))
    assert (len(counted), set(counted.values())) == (COUNT, {1})


def test_all_done_is_no_error_and_changes_nothing(edge_run, tiny_bundle, many, tmp_path):
    output = tmp_path / "rows.jsonl"
    images = [many / f"{number:03}.png" for number in (6, 7, 8)]
    arguments = ("classify", tiny_bundle, *images, "--output", output, "--skip-done")
    code, _, err = edge_run(*arguments)
    assert (code, ", 1 failed" in err) == (1, True)
    before = output.read_bytes()
    code, _, err = edge_run(*arguments)
    assert code == 0
    assert err.startswith(f"{output}: 0 images in ")
    assert err.endswith(", 3 done before\n")
    assert output.read_bytes() == before
    code, _, err = edge_run(*arguments, "--retry-failed")
    assert (code, err.endswith(", 1 failed, 2 done before\n")) == (1, True)
    assert sources_of(output) == [*(str(path) for path in images), str(images[1])]


def test_a_image_given_twice_has_one_row(edge_run, tiny_bundle, many, tmp_path):
    output = tmp_path / "rows.jsonl"
    path = many / "001.png"
    assert edge_run("classify", tiny_bundle, path, path, path, "--output", output, "--skip-done")[0] == 0
    assert sources_of(output) == [str(path)]


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("rows.jsonl", "these are my notes\n", ()),
        ("rows.jsonl", "these are my notes", ()),
        ("rows.jsonl", '["a list"]\n', ()),
        ("rows.csv", "name,age\nme,7\n", ()),
        ("rows.csv", "source,label,score,decode_ms,preprocess_ms,invoke_ms,error\n", ("--top-k", "2")),
    ],
)
def test_a_file_that_holds_something_else_is_left_alone(edge_run, tiny_bundle, many, tmp_path, name, content, options):
    output = tmp_path / name
    output.write_text(content)
    code, _, err = edge_run("classify", tiny_bundle, many, "--output", output, "--skip-done", *options)
    assert (code, err.count("\n")) == (7, 1)
    assert output.read_text() == content


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--skip-done",), "--output"),
        (("--skip-done", "--output", "rows.txt"), "expected an --output of --format jsonl or csv"),
        (("--skip-done", "--output", "rows.csv", "--overwrite"), "give one of the two"),
        (("--retry-failed", "--output", "rows.csv"), "goes with --skip-done"),
        (("--watch", "--output", "rows.csv", "--overwrite"), "there is no --overwrite"),
        (("--watch", "--output", "rows.txt"), "expected an --output of --format jsonl or csv"),
    ],
)
def test_options_that_do_not_go_together_say_so(edge_run, tiny_bundle, many, options, says):
    code, out, err = edge_run("classify", tiny_bundle, many, *options)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_a_second_run_on_the_same_output_is_refused(tiny_bundle, many, tmp_path):
    output = tmp_path / "rows.jsonl"
    os.mkfifo(tmp_path / "endless.jpg")
    # A pipe holds the first run in the middle.
    inputs = [many / "001.png", "/proc/self/cwd/endless.jpg"]
    command = [*EDGE_RUN, "classify", tiny_bundle, *inputs, "--output", output, "--skip-done", "--workers", "1"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
    with (tmp_path / "endless.jpg").open("wb"):
        before = output.read_bytes()
        second = run(*command)
        assert (second.returncode, output.read_bytes()) == (7, before)
        assert "another edge-run is writing there" in second.stderr
        first.send_signal(signal.SIGTERM)
        first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 130
    assert sources_of(output) == [str(many / "001.png")]


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(tiny_bundle, many, tmp_path):
    output = tmp_path / "rows.jsonl"
    command = [*EDGE_RUN, "classify", tiny_bundle, many, "--output", output, "--skip-done"]
    # A limit on the size of files fails writes as a full disk does; Python ignores its signal.
    done = run("bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *command)
    assert done.returncode == 7, done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: results cannot be written (")
    assert "Traceback" not in done.stderr
    assert 0 < lines_of(output) < COUNT
    assert output.read_bytes().endswith(b"\n")
    run(*command)
    assert (set(Counter(sources_of(output)).values()), lines_of(output)) == ({1}, COUNT)
