"""``edge-run`` as its user meets it: rows, exit codes, one clear sentence, and nothing half written."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.testing import write_tiny_model
from support.files import put
from support.images import plain_image, write_image
from support.programs import run, run_code

EDGE_RUN = [sys.executable, "-m", "edge_runtime.cli"]
# A named pipe is taken as an image only where a shell would have made it.
ENDLESS = "/proc/self/cwd/endless.jpg"
# A program that prints what it has imported, to standard error, after the command line has run.
LOADED = """
import sys
from edge_runtime.cli import cli
from edge_runtime.cli_support import run_cli
try:
    run_cli(cli)
finally:
    print("", *sys.modules, sep="\\n  loaded ")
"""


@pytest.fixture
def photos(tmp_path):
    """Two good images, and one that is text."""
    for name, color_bgr in (("a_red.png", (20, 20, 200)), ("c_blue.jpg", (200, 20, 20))):
        write_image(tmp_path / "photos" / name, plain_image(color_bgr, 20, 30))
    return put(tmp_path, "photos/b_text.jpg", "this is no image").parent


def loaded(printed):
    return {line.removeprefix("  loaded ") for line in printed.splitlines() if line.startswith("  loaded ")}


@pytest.mark.parametrize("command", [[], ["classify"], ["camera"], ["inspect"], ["doctor"], ["service"]])
def test_every_command_has_help_without_heavy_imports(command):
    done = run_code(LOADED, *command, "--help")
    assert done.stdout.startswith("Usage:")
    modules = loaded(done.stdout)
    assert "click" in modules
    assert not {"numpy", "cv2", "ai_edge_litert", "logging", "concurrent.futures"} & modules


def test_one_photo_loads_no_training_library_and_no_pool(edge_run, tiny_bundle, photos):
    edge_run("classify", tiny_bundle, photos / "a_red.png")  # the first run of a file also starts the sandbox
    done = run_code(LOADED, "classify", tiny_bundle, photos / "a_red.png")
    modules = loaded(done.stdout)
    assert "cv2" in modules
    assert not modules & {"tensorflow", "keras", "jax", "onnx", "tf2onnx", "onnxruntime", "concurrent.futures"}
    assert not modules & {"logging", "asyncio", "unittest", "tempfile"}
    # LiteRT's notice about its delegate does not reach the user, our own summary does.
    assert done.stderr.startswith("1 image in ")


def test_table_lists_every_input_and_sums_up(edge_run, tiny_bundle, photos):
    code, out, err = edge_run("classify", tiny_bundle, photos, photos.parent / "none.jpg")
    assert code == 1
    header, *rows = out.splitlines()
    assert header.split() == ["source", "label", "score", "ms"]
    assert [row.split()[1] for row in rows] == ["red", "error:", "blue", "error:"]
    assert rows[0].split()[2] == "0.781"
    assert "no such file" in rows[3]
    assert re.fullmatch(r"4 images in .*, 2 failed\n", err)


def test_jsonl_and_csv_say_the_same(edge_run, tiny_bundle, photos):
    code, out, err = edge_run("classify", tiny_bundle, photos, "--format", "jsonl", "--top-k", "2", "--workers", "2")
    assert (code, err) == (1, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["source"] for record in records] == [str(path) for path in sorted(photos.iterdir())]
    assert [record.get("label") for record in records] == ["red", None, "blue"]
    assert records[0]["top"] == [{"label": "red", "score": 0.78125}, {"label": "green", "score": 0.078125}]
    assert records[1]["error"]["type"] == "ImageError"
    code, out, err = edge_run("classify", tiny_bundle, photos, "--format", "csv", "--top-k", "2", "--workers", "1")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, err) == (1, "")
    assert [row["label"] for row in rows] == ["red", "", "blue"]
    assert rows[0]["label_2"] == "green"
    assert rows[1]["error"].startswith("ImageError: ")


def test_all_good_is_0_and_none_good_is_3(edge_run, tiny_bundle, photos):
    assert edge_run("classify", tiny_bundle, photos / "a_red.png", photos / "c_blue.jpg")[0] == 0
    code, out, _ = edge_run("classify", tiny_bundle, photos / "b_text.jpg", "--format", "jsonl")
    assert (code, len(out.splitlines())) == (3, 1)


def test_paths_without_any_image_are_one_sentence(edge_run, tiny_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = edge_run("classify", tiny_bundle, tmp_path / "none")
    assert (code, out, err) == (3, "", f"error: {tmp_path / 'none'}: no such file or folder\n")
    missing = [tmp_path / str(number) for number in range(5)]
    code, out, err = edge_run("classify", tiny_bundle, tmp_path / "empty", *missing)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert "holds no images" in err
    assert err.endswith("; and 3 more\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["MODEL", "a.png", "--top-k", "0"], 2, "--top-k"),
        (["MODEL", "a.png", "--workers", "-1"], 2, "--workers"),
        (["MODEL", "a.png", "--variant", "float16"], 2, "no variant float16; it holds float32, int8"),
        (["MODEL", "a.png", "--engine", "onnxruntime"], 2, "use --engine litert or tflite-runtime"),
        (["MODEL", "a.png", "--crop", "center"], 2, "carries a manifest"),
        (["MODEL"], 2, "PATH"),
        (["a.png", "a.png"], 4, "expected a bundle folder, a .tflite or an .onnx file"),
        (["none", "a.png"], 4, "no such file or folder"),
        ([".", "a.png"], 4, "expected a bundle"),
    ],
)
def test_what_cannot_be_used_is_one_sentence(edge_run, tiny_bundle, photos, monkeypatch, arguments, code, says):
    monkeypatch.chdir(photos)
    Path("a_red.png").rename("a.png")
    found, out, err = edge_run("classify", *(str(tiny_bundle) if word == "MODEL" else word for word in arguments))
    assert (found, out) == (code, "")
    assert says in err
    assert "Traceback" not in err


def test_a_foreign_model_says_what_it_needs(edge_run, photos, tmp_path):
    model = write_tiny_model(tmp_path / "foreign.tflite", with_manifest=False)
    labels = tmp_path / "labels.txt"
    labels.write_text("rouge\nvert\nbleu\n", encoding="utf-8")
    image = photos / "c_blue.jpg"
    assert edge_run("classify", model, image)[0] == 2
    assert "--labels" in edge_run("classify", model, image, "--crop", "stretch")[2]
    code, out, _ = edge_run("classify", model, image, "--crop", "stretch", "--labels", labels, "--format", "jsonl")
    assert (code, json.loads(out)["label"]) == (0, "bleu")
    labels.write_text("rouge\nvert\n", encoding="utf-8")
    code, _, err = edge_run("classify", model, image, "--crop", "stretch", "--labels", labels)
    assert (code, "2 labels need 2 outputs, but the model has 3" in err) == (4, True)


def test_output_is_a_file_whose_name_says_the_format(edge_run, tiny_bundle, photos, tmp_path):
    output = tmp_path / "new" / "rows.csv"
    code, out, err = edge_run("classify", tiny_bundle, photos, "--output", output)
    assert (code, out) == (1, "")
    assert err.startswith(f"{output}: 3 images in ")
    before = output.read_bytes()
    assert len(list(csv.DictReader(io.StringIO(before.decode())))) == 3
    code, _, err = edge_run("classify", tiny_bundle, photos, "--output", output)
    assert (code, "already exists" in err, output.read_bytes()) == (7, True, before)
    assert edge_run("classify", tiny_bundle, photos / "a_red.png", "--output", output, "--overwrite")[0] == 0
    assert len(list(csv.DictReader(output.open(encoding="utf-8")))) == 1
    assert list(output.parent.iterdir()) == [output]


def test_a_full_disk_is_one_sentence(tiny_bundle, photos):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [*EDGE_RUN, "classify", tiny_bundle, photos]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 7
    assert done.stderr.startswith(b"error: results cannot be written (No space left on device)")
    assert b"Traceback" not in done.stderr


def test_names_that_are_not_utf8_or_hold_escapes_do_no_harm(edge_run, tiny_bundle, photos):
    nasty = photos / os.fsdecode(b"n\xff\x1b[31m\n.png")
    (photos / "a_red.png").rename(nasty)
    for name in ("table", "jsonl", "csv"):
        code, out, _ = edge_run("classify", tiny_bundle, nasty, photos / "c_blue.jpg", "--format", name)
        assert code == 0
        assert "\x1b" not in out
        assert len(out.splitlines()) == (2 if name == "jsonl" else 3)
        out.encode("utf-8")
    done = subprocess.run([*EDGE_RUN, "inspect", nasty], capture_output=True, check=False)
    assert done.returncode == 4


def test_ascii_terminals_get_escapes_and_programs_get_utf8(tiny_bundle, photos):
    (photos / "a_red.png").rename(photos / "é猫.png")
    for name, expected in (("table", rb"\xe9\u732b.png"), ("jsonl", "é猫.png".encode())):
        command = [*EDGE_RUN, "classify", tiny_bundle, photos / "é猫.png", "--format", name]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, capture_output=True, check=True, env=environment)
        assert expected in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_leaves_the_old_output(tiny_bundle, photos, tmp_path, number):
    output = put(tmp_path, "out/rows.jsonl", "old\n")
    # A pipe as last image: the run waits for its end, with rows written and more to come.
    os.mkfifo(tmp_path / "endless.jpg")
    program = [*EDGE_RUN, "classify", tiny_bundle, photos, ENDLESS, "--workers", "1"]
    process = subprocess.Popen([*program, "--output", output, "--overwrite"], stderr=subprocess.PIPE, cwd=tmp_path)
    with (tmp_path / "endless.jpg").open("wb"):  # opening it waits until the run has come to it
        process.send_signal(number)
        process.wait(60)
        err = process.communicate()[1].decode()
    assert output.read_text(encoding="utf-8") == "old\n"
    if number is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 130
        assert "3 images in" in err
        assert err.rstrip("\n").endswith(", interrupted")
        assert list(output.parent.iterdir()) == [output]


def test_ctrl_c_keeps_the_finished_rows(tiny_bundle, photos, tmp_path):
    os.mkfifo(tmp_path / "endless.jpg")
    program = [*EDGE_RUN, "classify", tiny_bundle, photos, ENDLESS, "--workers", "1", "--format", "jsonl"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    with (tmp_path / "endless.jpg").open("wb"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert [json.loads(line)["source"] for line in out.splitlines()] == [str(path) for path in sorted(photos.iterdir())]
    assert b"Traceback" not in err


def test_a_reader_that_leaves_is_no_error(tiny_bundle, photos):
    command = f"{EDGE_RUN[0]} -m edge_runtime.cli classify '{tiny_bundle}' '{photos}' '{photos}' | head -n 1"
    done = run("bash", "-o", "pipefail", "-c", command)
    assert done.stdout.startswith("source ")
    assert not [part for part in ("Traceback", "Broken pipe") if part in done.stderr]
