"""Edges of the four programs: faults, closed and full streams, signals while importing, names, pipes and full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from support.files import small_file_system
from support.images import plain_image, write_image, write_video
from support.programs import call_cli, run, run_code

PROGRAMS = ("edge-run", "edge-train", "edge-convert", "edge-bench")
LONG = "x" * 5000


def program(name):
    return str(Path(sys.executable).with_name(name))


def shell(words, redirection):
    return run("bash", "-o", "pipefail", "-c", f'"$@" {redirection}', "bash", *words, timeout_s=60)


@pytest.fixture
def fail(monkeypatch, capsys):
    """Run a command that raises an error: exit code and the lines on standard error."""

    def call(error):
        @click.command()
        def command():
            raise error

        code, out, err = call_cli(command, monkeypatch, capsys, "edge-run")
        assert out == ""
        return code, err.splitlines()

    return call


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (EOFError(), 70, "edgekit has a fault (EOFError: ); please report it"),
        (KeyError("labels"), 70, "edgekit has a fault (KeyError: 'labels'); please report it"),
        (ValueError("rtsp://me:secret@cam/1\n\x1b[31m"), 70, r"(ValueError: rtsp://me:***@cam/1\n\x1b[31m); please"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 70, "BrokenPipeError"),
        (MemoryError(), 1, "memory ran out"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            7,
            "a/b: cannot be written (No space left on device)",
        ),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 7, "the output cannot be written (Disk quota exceeded)"),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", LONG),
            2,
            "x...: File name too long; expected a shorter name",
        ),
        (KeyboardInterrupt(), 130, None),
    ],
)
def test_any_error_is_one_sentence_and_an_exit_code(fail, monkeypatch, error, code, says):
    found, lines = fail(error)
    assert found == code
    assert len(lines) == (says is not None)
    if says:
        assert lines[0].startswith("error: ")
        assert says in lines[0]
        assert len(lines[0]) < 400
        monkeypatch.setenv("EDGEKIT_DEBUG", "1")
        assert fail(error)[1][0] == "Traceback (most recent call last):"


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    ("arguments", "redirection", "code"),
    [
        (["--help"], "> /dev/full", 7),
        (["--help"], ">&-", 7),
        (["--help"], "2>&- >/dev/null", 0),
        (["--help"], "<&- >/dev/null", 0),
        (["--help"], "| head -n 1 > /dev/null", 0),
        (["nothing"], "2>&-", 2),
        (["nothing"], "2> /dev/full", 2),
    ],
)
def test_closed_and_full_streams(name, arguments, redirection, code):
    done = shell([program(name), *arguments], redirection)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == (code == 7)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
@pytest.mark.parametrize("command", [["doctor"], ["doctor", "--json"], ["inspect"], ["classify"]])
def test_results_that_cannot_be_printed_are_exit_7(tiny_bundle, tmp_path, command, redirection):
    photo = write_image(tmp_path / "a.png", plain_image(0))
    paths = {"inspect": [tiny_bundle], "classify": [tiny_bundle, photo]}.get(command[0], [])
    done = shell([program("edge-run"), *command, *paths], redirection)
    assert done.returncode == 7
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("redirection", ["2> /dev/full", "2>&-", "<&- >&- 2>&-"])
def test_messages_that_cannot_be_printed_lose_no_row(tiny_bundle, tmp_path, redirection):
    photo, output = write_image(tmp_path / "a.png", plain_image(0)), tmp_path / "rows.jsonl"
    done = shell([program("edge-run"), "classify", tiny_bundle, photo, "--output", output], redirection)
    assert done.returncode == 0
    assert json.loads(output.read_text())["source"] == str(photo)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("left_bytes", [0, 4096])
def test_a_full_disk_is_exit_7_and_leaves_nothing(edge_run, tiny_bundle, tmp_path, suffix, left_bytes):
    images = [write_image(tmp_path / "in" / f"{number:03}.png", plain_image(number)) for number in range(60)]
    with small_file_system(tmp_path / "disk", "8k") as disk:
        (disk / "full").write_bytes(bytes(8192 - left_bytes))
        code, _, err = edge_run("classify", tiny_bundle, *images, "--output", disk / f"rows{suffix}")
        assert code == 7
        assert "No space left on device" in err.splitlines()[-1]
        assert [path.name for path in disk.iterdir()] == ["full"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_an_import(tmp_path, number):
    """A module that is interrupted halfway would be taken for one that is missing."""
    (tmp_path / "native.py").write_text(
        "import os, time\n"
        f"try:\n    os.kill(os.getpid(), {int(number)})\n    time.sleep(0.2)\n"
        "except KeyboardInterrupt:\n    raise ImportError('no runtime could be imported') from None\n"
    )
    code = (
        "import sys, click\nsys.path.insert(0, sys.argv.pop(1))\n"
        "from edge_runtime.cli_support import run_cli\nfrom edge_runtime.errors import EngineError\n"
        "from edge_runtime.platform.process import Interrupts\n"
        "@click.command()\ndef command():\n    with Interrupts():\n        try:\n            import native\n"
        "            import time; time.sleep(30)\n"
        "        except ImportError as error:\n            raise EngineError(str(error))\n"
        "run_cli(command)"
    )
    done = run_code(code, tmp_path, check=False, timeout_s=20)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("package", ["edge_runtime", "train", "convert", "benchmarks"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_program_is_loaded_ends_it_silently(tmp_path, package, number):
    """The command line reads ``click``; a slow one of the test stands in for it."""
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "__init__.py").write_text("import time\nprint('loading', flush=True)\ntime.sleep(30)\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", package]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert process.stdout
    assert process.stdout.readline() == b"loading\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130 if number is signal.SIGINT else -signal.SIGTERM, b"")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_is_no_false_sentence(tiny_bundle, tmp_path, number):
    photo = write_image(tmp_path / "a.png", plain_image(0))
    for step in range(20):
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_runtime", "classify", tiny_bundle, photo],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.08 + 0.03 * step)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (0, 130, -signal.SIGTERM)
        assert "error" not in err
        assert "Traceback" not in err


def odd_paths(folder):
    """Paths where a regular file is meant: too long, a named pipe, a device."""
    os.mkfifo(folder / "pipe.tflite")
    return LONG, folder / "pipe.tflite", "/dev/zero"


@pytest.mark.parametrize(
    "words",
    [
        ["classify", "ODD", "PHOTO"],
        ["classify", "MODEL", "ODD"],
        ["classify", "MODEL", "PHOTO", "--output", "ODD"],
        ["classify", "MODEL/tiny-int8.tflite", "PHOTO", "--labels", "ODD"],
        ["inspect", "ODD"],
        pytest.param(["doctor", "ODD"], marks=pytest.mark.slow),
        ["camera", "MODEL", "--source", "ODD"],
        ["camera", "MODEL", "--source", "ODD", "--realtime"],
        ["service", "ODD", "--source", "0"],
        ["service", "--environment", "ODD", "MODEL"],
    ],
)
def test_names_that_are_too_long_pipes_and_devices_are_refused(edge_run, tiny_bundle, tmp_path, words):
    photo = write_image(tmp_path / "a.png", plain_image(0))
    for odd in odd_paths(tmp_path):
        given = {"ODD": str(odd), "MODEL": str(tiny_bundle), "PHOTO": str(photo)}
        code, out, err = edge_run(*[given.get(word, word.replace("MODEL", str(tiny_bundle))) for word in words])
        if words[0] == "doctor" and odd != LONG:
            assert (code, "expected a bundle" in out) == (1, True)
            continue
        assert code in (2, 3, 4, 6, 7), err
        assert err.splitlines()[-1].startswith("error: ")
        assert "fault" not in err


def test_a_pipe_that_a_shell_made_is_read(tiny_bundle, tmp_path):
    photo = write_image(tmp_path / "a.png", plain_image(0))
    command = f"{program('edge-run')} classify '{tiny_bundle}' <(cat '{photo}') --format jsonl"
    done = run("bash", "-c", command, timeout_s=60)
    assert (done.returncode, json.loads(done.stdout)["label"]) == (0, "red")


@pytest.mark.parametrize("options", [[], ["--realtime"]])
def test_a_video_whose_name_is_not_utf_8_is_read(tiny_bundle, tmp_path, options):
    video = write_video(tmp_path / "v.avi", [plain_image(20 * number, 32, 32) for number in range(3)])
    odd = video.rename(os.fsdecode(os.fsencode(tmp_path) + b"/v\xff\xfe.avi"))
    command = [program("edge-run"), "camera", tiny_bundle, "--source", odd, "--format", "jsonl", *options]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert os.fsencode(json.loads(done.stdout.splitlines()[0])["source"]) == os.fsencode(odd)
