"""Failures of ``edge-convert run``: one sentence, an exit code, and nothing half written."""

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import convert.cli
from convert.children import run_child, space_in
from convert.confinement import describe, landlock_version
from edge_runtime.errors import EngineError, ModelError, OutputError
from edge_runtime.model.bundle import read_bundle_manifest
from support.programs import call_cli, run
from support.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("edge-convert")
SIZE = 24
PATIENCE_S = 180


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Untrained models, each with its own way of being no ordinary classifier of images."""
    import keras

    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)

    def features(image):
        return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu")(image))

    def classify(image):
        return keras.layers.Dense(2, "softmax")(features(image))

    image, other, open_size = (keras.Input((side, side, 3)) for side in (SIZE, SIZE, None))
    keras.Model(image, classify(image)).save(folder / "good.keras")
    keras.Model(image, classify(keras.layers.Lambda(lambda x: x / 255.0)(image))).save(folder / "lambda.keras")
    keras.Model([image, other], classify(keras.layers.Add()([image, other]))).save(folder / "two.keras")
    keras.Model(open_size, classify(open_size)).save(folder / "open.keras")
    keras.Model(image, keras.layers.Conv2D(2, 1)(image)).save(folder / "boxes.keras")
    keras.Model(image, [classify(image), keras.layers.Dense(4)(features(image))]).save(folder / "detector.keras")
    (folder / "text.keras").write_text("not a model\n")
    (folder / "labels.txt").write_text("blue\nred\n")
    (folder / "three.txt").write_text("blue\nred\ngreen\n")
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to convert in, with the temporary folder inside; what is left there afterwards is seen."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left_behind(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name not in ("tmp", "empty"))


def arguments_for(models, name, images, *more, labels="labels.txt"):
    said = ["--labels", models / labels, "--input-range", "0,1", "--crop", "stretch", "--calibration", images]
    return [str(item) for item in ("run", models / name, *said, "--max-drop", "100", "--variant", "int8", *more)]


@pytest.mark.parametrize(
    ("name", "more", "code", "words"),
    [
        ("text.keras", [], 4, "expected a run directory"),
        ("missing.keras", [], 4, "no such file"),
        ("lambda.keras", [], 4, "Lambda layer"),
        ("two.keras", [], 4, "2 inputs"),
        ("detector.keras", [], 4, "2 outputs"),
        ("open.keras", [], 2, "add --image-size"),
        ("good.keras", ["--image-size", "32"], 2, "--image-size 32"),
        ("good.keras", ["--labels", "{models}/three.txt"], 4, "expects 2 labels, one per output, got 3"),
        ("good.keras", ["--labels", "{models}/missing.txt"], 2, "--labels"),
        ("good.keras", ["--calibration", "empty"], 3, "empty"),
        ("good.keras", ["--runtime", "tflite-runtime==9"], 2, "2.14"),
        ("good.keras", ["--out", "taken"], 7, "--overwrite"),
    ],
)
def test_what_can_be_seen_without_loading_the_model(
    models, colored_images, work, monkeypatch, capsys, name, more, code, words
):
    (work / "empty" / "cat").mkdir(parents=True)
    if "taken" in more:
        (work / "taken").write_text("mine")
    monkeypatch.setattr("convert.children.run_child", lambda *_args, **_kwargs: pytest.fail("a child was started"))
    more = [text.format(models=models) for text in more]
    arguments = arguments_for(models, name, colored_images, *more)
    exit_code, out, err = call_cli(convert.cli.cli, monkeypatch, capsys, "edge-convert", *arguments)
    assert (exit_code, out) == (code, ""), err
    assert re.fullmatch(f"error: .*{re.escape(words)}.*\n", err)
    assert left_behind(work) in ([], ["empty/cat"], ["empty/cat", "taken"])


@pytest.mark.slow
def test_what_only_the_loaded_model_shows(run_program, models, colored_images, work):
    done = run_program("edge-convert", *arguments_for(models, "boxes.keras", colored_images))
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert re.search("error: .*expected a classifier", done.stderr.splitlines()[-1])
    assert left_behind(work) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "more"), [("lambda.keras", ["--unsafe", "--input-range", "0,255"]), ("open.keras", ["--image-size", "32"])]
)
def test_what_was_refused_is_converted_with_the_option_that_was_asked_for(
    run_program, models, colored_images, work, name, more
):
    done = run_program("edge-convert", *arguments_for(models, name, colored_images, *more, "--out", "bundle"))
    assert done.returncode == 0, done.stderr
    (artifact,) = read_bundle_manifest(work / "bundle").artifacts
    side = 32 if name == "open.keras" else SIZE
    assert artifact.input.shape == (1, side, side, 3)


# The images of the small run need more than the first, its export more than the second. A limit on files fails like
# a full disk.
@pytest.mark.parametrize("limit_bytes", [50_000, 200_000])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_run, work, limit_bytes):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    done = run(PROGRAM, "run", small_run, "--out", "bundle", preexec_fn=limit)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr.splitlines()[-1] for word in ("make room", "TMPDIR"))
    assert left_behind(work) == []


def test_only_want_of_space_is_called_so(tmp_path):
    with pytest.raises(OutputError, match="no space left there"), space_in(tmp_path, "choose another --out"):
        Path("/dev/full").write_bytes(b"x" * 100_000)
    with pytest.raises(OutputError, match="no space left there"), space_in(tmp_path):
        raise OSError("135168 requested and 40832 written")
    with pytest.raises(PermissionError), space_in(tmp_path):
        raise PermissionError(13, "Permission denied")


ODD = "import pathlib, convert.children as c, edge_runtime.errors as e; c.refuse(pathlib.Path(), e.ModelError('odd'))"


@dataclass(frozen=True)
class Job:
    number: int


@pytest.fixture
def run_text(tmp_path, monkeypatch):
    """Run a child whose ``main`` has this body, in a work folder of its own."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "modules")

    def run_body(body, memory_bytes=0):
        (tmp_path / "modules" / "invented_child.py").write_text(f"def main():\n    {body}\n")
        run_child("invented_child", Job(1), tmp_path / "work", memory_bytes=memory_bytes)

    return run_body


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", EngineError, r"was killed \(SIGKILL\) .* can be run again"),
        ("import os; os.kill(os.getpid(), 11)", EngineError, r"was killed \(SIGSEGV\)"),
        ("raise SystemExit('out of luck')", EngineError, "ended with code 1; its last lines were:\nout of luck"),
        ("open('/dev/full', 'w').write('x' * 9999)", OutputError, "no space left there"),
        ("raise OSError(122, 'Disk quota exceeded')", OutputError, "no space left there"),
        (ODD, ModelError, "^odd$"),
    ],
)
def test_how_a_child_ends_is_said(run_text, text, error, words):
    with pytest.raises(error, match=words):
        run_text(text)


OUTSIDE = "{outside}/new"


@pytest.mark.skipif(landlock_version() < 3, reason="this kernel has no Landlock of version 3 or later")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"open('{OUTSIDE}', 'w')", "Permission denied"),
        (f"import os; os.mkdir('{OUTSIDE}')", "Permission denied"),
        ("import os; os.truncate('{outside}/mine', 0)", "Permission denied"),
        ("import os; os.remove('{outside}/mine')", "Permission denied"),
        ("import os; os.rename('{outside}/mine', 'mine')", "Permission denied"),
        ("import os; os.link('{outside}/mine', 'mine'); open('mine', 'w')", "Permission denied|cross-device"),
        ("import os; os.symlink('{outside}/mine', 'mine'); open('mine', 'w')", "Permission denied"),
        (
            f"import subprocess; subprocess.run(['/bin/sh', '-c', 'echo x > {OUTSIDE}'], check=True)",
            "CalledProcessError",
        ),
        ("import os; os.kill(os.getppid(), 15)", "Operation not permitted"),
    ],
)
def test_a_child_writes_into_its_work_folder_only(run_text, tmp_path, text, words):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    with pytest.raises(EngineError, match=words):
        run_text(text.format(outside=outside))
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"mine": "mine"}
    run_text("import tempfile, os; open('own', 'w').write('x'); os.rename('own', tempfile.mkdtemp() + '/own')")


@pytest.mark.skipif("no network" not in describe(), reason="this machine has no seccomp that the walls know")
@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"])
@pytest.mark.parametrize("kind", ["SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"])
def test_a_child_has_no_network(run_text, family, kind):
    with pytest.raises(EngineError, match="Permission denied"):
        run_text(f"import socket as s; s.socket(s.{family}, s.{kind})")


def test_a_child_takes_no_more_memory_and_no_larger_file_than_it_may(run_text):
    with pytest.raises(EngineError, match="MemoryError"):
        run_text("bytearray(3 << 30)", memory_bytes=2 << 30)
    with pytest.raises(OutputError, match="no space left"):
        run_text("open('large', 'wb').truncate(5 << 30)")


def test_a_module_in_the_users_folder_is_not_run(tmp_path, monkeypatch):
    for folder in ("mine", "work"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "invented_child.py").write_text("def main():\n    print('from a folder of the user')\n")
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(EngineError, match="No module named 'invented_child'"):
        run_child("invented_child", Job(1), tmp_path / "work")


def processes_that_name(*texts):
    found = []
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = command_line.read_bytes().decode(errors="replace")
            if all(text in line for text in texts):
                found.append(int(command_line.parent.name))
    return found


@pytest.fixture
def conversion(small_run, work):
    """A conversion that runs, once its child of a name has started: the process, and that child."""
    started = []

    def start(module):
        # Its work folder, and so its name in the command lines of its children, lies in the temporary one.
        process = subprocess.Popen(
            [PROGRAM, "run", small_run, "--out", "bundles/b"],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell that starts the tests in the background lets them, and so their children, ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(process)
        return process, wait_until(lambda: processes_that_name(module, str(work)), deadline_s=PATIENCE_S)[0]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("module", ["convert.export.child", "convert.quantize.child"])
def test_a_killed_child_is_one_sentence_and_leaves_nothing(conversion, work, module):
    process, child = conversion(module)
    os.kill(child, signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 5
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith(f"error: {module} was killed (SIGKILL) before it finished")
    assert left_behind(work) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_conversion_leaves_nothing(conversion, work, number):
    process, _ = conversion("convert.export.child")
    # As a terminal does: to the whole group.
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert left_behind(work) == []
    assert processes_that_name(str(work)) == []


@pytest.mark.parametrize("module", ["convert.export.child", "convert.quantize.child", "convert.check_child"])
def test_a_killed_conversion_leaves_no_bundle_and_no_child(conversion, work, module):
    process, _ = conversion(module)
    process.kill()
    process.wait()
    wait_until(lambda: not processes_that_name(str(work)), deadline_s=2)
    assert not (work / "bundles").exists()
