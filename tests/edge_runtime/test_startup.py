"""edge_runtime runs on a device: no TensorFlow and nothing of the producers, and `--help` answers at once."""

import pkgutil
import time

import pytest

import edge_runtime
from support.images import plain_image, write_image, write_video
from support.programs import run_code

FORBIDDEN = ("tensorflow", "keras", "jax", "onnx", "tf2onnx", "tf_keras", "train", "convert", "benchmarks")
EXTRAS = ("aiohttp", "paho", "picamera2", "prometheus_client", "watchdog", "onnxruntime", "flatbuffers")
HEAVY = ("numpy", "cv2", "tensorflow", "keras", "matplotlib", "ai_edge_litert", *EXTRAS)
ROOMS_OF_EXTRAS = ("edge_runtime.sinks.mqtt.", "edge_runtime.sinks.web.")


def modules_after(statement):
    done = run_code(f"import sys\n{statement}\nprint(' '.join(sys.modules))")
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_every_module_of_edge_runtime_imports_without_the_producers():
    found = [module.name for module in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")]
    assert "edge_runtime.engines" in found
    importable = [name for name in found if not name.endswith("__main__")]
    assert not modules_after("\n".join(f"import {name}" for name in importable)) & set(FORBIDDEN)


WITHOUT_EXTRAS = """
import importlib, sys
for name in {extras}:
    sys.modules[name] = None  # import raises ModuleNotFoundError
for name in {modules}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        print(name)
"""


def test_the_base_install_imports_all_but_the_rooms_of_extras():
    """What a command needs of an extra it imports when it needs it, so that it can say which one is missing."""
    modules = [module.name for module in pkgutil.walk_packages(edge_runtime.__path__, "edge_runtime.")]
    failed = run_code(WITHOUT_EXTRAS.format(extras=EXTRAS, modules=modules)).stdout.split()
    assert failed  # else the extras were not kept away
    assert [name for name in failed if not name.startswith(ROOMS_OF_EXTRAS)] == []


@pytest.mark.parametrize("program", ["train", "convert", "edge_runtime", "benchmarks"])
def test_the_command_lines_import_nothing_heavy(program):
    assert not modules_after(f"import {program}.cli") & set(HEAVY)


@pytest.mark.parametrize("program", ["edge-train", "edge-convert", "edge-run", "edge-bench"])
def test_help_answers(program, run_program):
    started = time.perf_counter()
    done = run_program(program, "--help")
    assert (done.returncode, done.stdout.partition(" ")[0]) == (0, "Usage:")
    assert time.perf_counter() - started < 5  # a hang, not a measurement
    for line in done.stdout.partition("Commands:")[2].splitlines():
        if line.strip():
            sub = run_program(program, line.split()[0], "--help")
            assert (sub.returncode, "--help" in sub.stdout) == (0, True)


def test_every_public_name_is_there_and_is_loaded_late():
    for name in edge_runtime.__all__:
        assert getattr(edge_runtime, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        edge_runtime.nothing  # noqa: B018


def test_the_contract_costs_no_numpy():
    assert not modules_after("import edge_runtime, edge_runtime.contract, edge_runtime.errors") & set(HEAVY)


_RUN = """
import gc, sys
from edge_runtime.cli import cli
from edge_runtime.platform.process import collect_rarely

usual = gc.get_threshold()
collect_rarely()
assert gc.get_threshold() != usual
cli(sys.argv[1:], standalone_mode=False)
assert gc.get_threshold() == usual
assert gc.get_freeze_count() > 1000
"""


@pytest.mark.parametrize("command", ["classify", "camera"])
def test_long_work_collects_as_usual(command, tiny_bundle, tmp_path):
    image = plain_image(0, 16, 16)
    photo, video = write_image(tmp_path / "black.png", image), write_video(tmp_path / "black.avi", [image])
    arguments = [photo] if command == "classify" else ["--source", video]
    run = run_code(_RUN, command, tiny_bundle, *arguments, check=False)
    assert run.returncode == 0, run.stderr
    assert "red" in run.stdout


_COUNT_FILES = """
import sys, threading
from pathlib import Path
import edge_runtime
from edge_runtime.cli import cli

root = str(Path(edge_runtime.__file__).parent) + "/"
names = set()

def count(frame, event, _argument):
    code = frame.f_code
    # Neither a comprehension nor the body of a module or class.
    is_function = not code.co_name.startswith("<") and code.co_flags & 2
    if event == "call" and is_function and code.co_filename.startswith(root):
        names.add(code.co_filename.removeprefix(root))

threading.setprofile(count)
sys.setprofile(count)
cli(sys.argv[1:], standalone_mode=False)
sys.setprofile(None)
print(*sorted(names), sep="\\n", file=sys.stderr)
"""


def test_an_image_is_classified_by_few_files(tiny_bundle, tmp_path):
    """Files of edge_runtime of which a function runs from the command line to the runtime and back."""
    photo = write_image(tmp_path / "photo.jpg", plain_image(0))
    run_code(_COUNT_FILES, "classify", tiny_bundle, photo)  # runs the model in the sandbox, once on a machine
    run = run_code(_COUNT_FILES, "classify", tiny_bundle, photo)
    files = [line for line in run.stderr.splitlines() if line.endswith(".py")]
    assert "engines.py" in files
    assert len(files) <= 18, files
