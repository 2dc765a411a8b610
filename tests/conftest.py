"""Small data that the tests make themselves, and the real data beside the checkout where it is present."""

import collections
import contextlib
import fcntl
import functools
import os
import signal
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import edge_runtime.cli
from edge_runtime.testing import write_tiny_bundle
from support.files import small_file_system
from support.http import Receiver
from support.paths import CHECKOUT
from support.programs import call_cli, run

# What this machine remembers of a person's own bundles and models must not change what tests see.
_CACHE = tempfile.TemporaryDirectory(prefix="edgekit-cache-")
os.environ["EDGEKIT_CACHE"] = _CACHE.name

# A shell starts background jobs with Ctrl-C ignored, and the programs that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Machines under load are slow, and a fixture of a test is the same for all of its examples on purpose.
settings.register_profile("edgekit", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
settings.load_profile("edgekit")

LABELS = ("blue", "red")


# Fixtures that say for themselves what a test needs: a model that is trained and converted, another environment.
_MARKERS_BY_FIXTURE = {
    "slow": {"small_run", "small_bundle", "mobilenetv2_weights"},
    "second_env": {"tflite_python", "mediapipe_python"},
}
_SECONDS_KEY = "edgekit/seconds"
_SLOW_S = 20.0
_seconds: collections.Counter[str] = collections.Counter()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark what needs a trained model or a second environment, and give the longest files to the workers first.

    The file that begins last decides how long one worker waits for the others. The seconds of each file are those of
    the last run, which the cache of pytest holds; before the first run each slow test counts for 20.
    """
    for item in items:
        for marker, fixtures in _MARKERS_BY_FIXTURE.items():
            if fixtures & set(getattr(item, "fixturenames", ())):
                item.add_marker(marker)
    if hasattr(config, "workerinput") and config.cache:
        learnt = config.cache.get(_SECONDS_KEY, {})
        slow = collections.Counter(_file_of(item.nodeid) for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -learnt.get(_file_of(item.nodeid), _SLOW_S * slow[_file_of(item.nodeid)]))


def pytest_runtest_logreport(report):
    """Add up the seconds of each test file."""
    _seconds[_file_of(report.nodeid)] += report.duration


def pytest_sessionfinish(session):
    """Remember the seconds of each file for the order of the next run."""
    config = session.config
    if config.cache and not hasattr(config, "workerinput"):
        config.cache.set(_SECONDS_KEY, {**config.cache.get(_SECONDS_KEY, {}), **_seconds})


def _file_of(node_id):
    return node_id.partition("::")[0]


@pytest.fixture(scope="session")
def made_once(request, tmp_path_factory):
    """Make a file or folder once for all workers: ``made_once("runs/colors", make)`` gives its path.

    The first to ask calls ``make`` with the path; the others wait for it, and nobody may change what was made.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if hasattr(request.config, "workerinput") else base) / "shared"

    def once(name, make):
        path, done = shared / name, shared / f"{name}.done"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                make(path)
                done.touch()
        return path

    return once


@pytest.fixture(scope="session")
def run_program():
    """Run one of the four programs in a process of its own: ``run_program("edge-run", "classify", ...)``."""

    def run_named(program, *arguments, **options):
        return run(Path(sys.executable).with_name(program), *arguments, **options)

    return run_named


@pytest.fixture
def edge_run(monkeypatch, capsys):
    """Run ``edge-run`` in this process: exit code, standard output, standard error."""
    return functools.partial(call_cli, edge_runtime.cli.cli, monkeypatch, capsys, "edge-run")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory):
    """A bundle of a model of one kilobyte, which answers red, green or blue, made without TensorFlow."""
    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def stack():
    """Contexts that end with the test."""
    with contextlib.ExitStack() as contexts:
        yield contexts


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, not made yet."""
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 KiB."""
    with small_file_system(tmp_path / "disk") as folder:
        yield folder


@pytest.fixture
def receiver():
    """A web server that remembers what is posted to it."""
    server = Receiver()
    yield server
    server.hangs.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def real_data():
    """Give a folder of the real photos beside the checkout, or skip."""
    root = Path(os.environ.get("EDGEKIT_TEST_DATA", CHECKOUT.parent / "shared" / "data"))

    def find(name):
        if not (root / name).exists():
            pytest.skip(f"real data {name} is not beside the checkout (EDGEKIT_TEST_DATA names another folder)")
        return root / name

    return find


def write_colored_images(folder, per_class=30, seed=0):
    """Write ``folder/{blue,red}/*.png``: noisy images of many sizes, told apart by their colour."""
    rng = np.random.default_rng(seed)
    for channel, label in ((0, "blue"), (2, "red")):
        (folder / label).mkdir(parents=True)
        for index in range(per_class):
            height, width = rng.integers(40, 90, 2)
            image_hwc_bgr_u8 = rng.integers(0, 120, (height, width, 3), np.uint8)
            image_hwc_bgr_u8[:, :, channel] += 100
            cv2.imwrite(str(folder / label / f"{label}{index:03d}.png"), image_hwc_bgr_u8)
    return folder


@pytest.fixture(scope="session")
def colored_images(made_once):
    """A folder of two classes, 30 images each."""
    return made_once("data/colors", write_colored_images)


@pytest.fixture(scope="session")
def small_run(run_program, colored_images, made_once):
    """A run directory of a small model at 32 pixels, trained by ``edge-train run``."""
    arguments = ["--recipe", "cnn-small", "--image-size", "32", "--epochs", "3", "--batch-size", "8"]

    def make(run):
        done = run_program("edge-train", "run", "--data", colored_images, "--out", run, *arguments, "--name", "colors")
        assert done.returncode == 0, done.stderr

    return made_once("runs/colors", make)


@pytest.fixture(scope="session")
def small_bundle(run_program, small_run, made_once):
    def make(bundle):
        # A validation split of a few images says nothing about a loss of 1 point, so the gate is opened wide.
        done = run_program("edge-convert", "run", small_run, "--out", bundle, "--max-drop", "100")
        assert done.returncode == 0, done.stderr

    return made_once("bundles/colors", make)


@pytest.fixture(scope="session")
def mobilenetv2_weights(made_once):
    """A no-top weight file of MobileNetV2 alpha 0.35 with random weights, in the layout that Keras publishes."""
    return made_once("weights/backbone.h5", _write_mobilenetv2)


def _write_mobilenetv2(path):
    import h5py
    import keras

    choices = {"alpha": 0.35, "include_top": False, "weights": None, "pooling": "avg"}
    backbone = keras.applications.MobileNetV2(input_shape=(32, 32, 3), **choices)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in backbone.layers]
        for layer in backbone.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, layer.weights, strict=True):
                group.create_dataset(name, data=np.asarray(weight))


@pytest.fixture(scope="session")
def tflite_python():
    """Run the Python of the environment that has tflite-runtime on the checkout, or skip."""
    program = CHECKOUT / ".venv-tflite" / "bin" / "python"
    if not program.exists():
        pytest.skip("no virtual environment with tflite-runtime (make test prepares .venv-tflite, Python up to 3.11)")

    return functools.partial(run, program, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, timeout_s=120)
