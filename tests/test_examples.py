"""The programs of ``examples/`` and the Python of ``docs/python-api.md`` run as they are written."""

import functools
import importlib.util
import json
import re
import shutil
import sys

import cv2
import numpy as np
import pytest

from edge_runtime.testing import write_tiny_model
from support import programs
from support.images import write_video
from support.paths import CHECKOUT

EXAMPLES = sorted((CHECKOUT / "examples").glob("*.py"))
PAGE = (CHECKOUT / "docs/python-api.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
CHANNELS_BGR = {"blue": 0, "green": 1, "red": 2}
FRAMES_PER_COLOR = 10


@pytest.fixture
def workplace(tiny_bundle, tmp_path):
    """What the programs speak of: a bundle, a model without a manifest, a red photo, a video of four colours."""
    shutil.copytree(tiny_bundle, tmp_path / "bundles/pets")
    write_tiny_model(tmp_path / "downloaded.tflite", with_manifest=False)
    cv2.imwrite(str(tmp_path / "photo.jpg"), _frame("red"))
    (tmp_path / "not-a-picture.txt").write_text("hello")
    frames = [_frame(color) for color in ("green", "red", "green", "blue") for _ in range(FRAMES_PER_COLOR)]
    write_video(tmp_path / "video.mp4", frames, fps=10, codec="mp4v")
    return tmp_path


@pytest.fixture
def run(workplace):
    strict = ("-W", "error::DeprecationWarning:edge_runtime")
    return functools.partial(programs.run, sys.executable, *strict, cwd=workplace, timeout_s=120)


def test_a_light_follows_its_label(run):
    done = run(_example("gpio_light"), "bundles/pets", "red", "--source", "video.mp4", "--dry-run")
    assert done.returncode == 0, done.stderr
    # Off when green comes, and again, as always, at the end.
    assert done.stdout.split("\n") == ["light on", "light off", "light off", ""]


MOCK_BOARD = """
import runpy, sys
from gpiozero import Device
from gpiozero.pins.mock import MockFactory
Device.pin_factory = MockFactory()
pin = Device.pin_factory.pin(27)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
print([bool(state.state) for state in pin.states])
"""


@pytest.mark.skipif(
    importlib.util.find_spec("gpiozero") is None, reason="gpiozero is not installed; only examples need it"
)
def test_a_light_at_a_pin_goes_on_and_off(run):
    done = run("-c", MOCK_BOARD, _example("gpio_light"), "bundles/pets", "red", "--source", "video.mp4", "--pin", "27")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[False, True, False]"


def test_a_light_for_a_label_that_the_model_lacks_is_refused(run):
    done = run(_example("gpio_light"), "bundles/pets", "zebra", "--source", "video.mp4", "--dry-run")
    assert done.returncode == 1
    assert "zebra: is no label of bundles/pets, which has red, green, blue" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == "light off\n"


def test_a_feeder_camera_keeps_an_image_of_each_visit(run, workplace, receiver):
    options = ["--source", "video.mp4", "--ignore", "green", "--save", "visits"]
    done = run(_example("feeder_camera"), "bundles/pets", *options, "--post", receiver.url)
    assert done.returncode == 0, done.stderr
    *lines, count = done.stdout.splitlines()
    assert count == "red 1, blue 1"
    assert ["red" in lines[0], "blue" in lines[1], len(lines)] == [True, True, 2]
    assert [body["decision"]["label"] for body in receiver.bodies()] == ["red", "blue"]
    saved = sorted((workplace / "visits").rglob("*.jpg"))
    assert any(path.parent.name == "red" for path in saved), saved
    assert all(cv2.imread(str(path)).shape == (48, 64, 3) for path in saved)


def test_labels_of_a_folder_are_counted_by_several_threads(run, workplace):
    for color, count in {"blue": 5, "green": 3, "red": 7}.items():
        for number in range(count):
            (workplace / "photos" / color).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(workplace / f"photos/{color}/{number}.png"), _frame(color))
    (workplace / "photos/broken.jpg").write_bytes(b"no image")
    done = run(_example("count_labels"), "bundles/pets", "photos")
    assert done.returncode == 0, done.stderr
    rows = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert rows == ["7 red", "5 blue", "3 green", "1 (unreadable)"]
    assert "broken.jpg" in done.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_what_it_needs_and_refuses_a_missing_model(example, run):
    assert "pip install edgekit" in run(example, "--help").stdout
    needed = {"gpio_light": ["red", "--dry-run"], "count_labels": ["photo.jpg"]}
    done = run(example, "missing", *needed.get(example.stem, []))
    assert done.returncode == 1
    assert f"{example.stem}: missing: " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_examples_have_types_and_no_lint():
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed; it comes with the extra dev")
    done = programs.run_module("mypy", "--strict", *EXAMPLES)
    assert done.returncode == 0, done.stdout


def test_the_python_of_the_page_prints_what_the_page_says(run):
    done = [run("-c", block) for block in BLOCKS]
    assert [block.stderr for block in done if block.returncode] == []
    image, steps, foreign, camera, source, error, testing = (block.stdout for block in done)
    assert [line.split()[0] for line in image.splitlines()] == ["red", "green", "blue"]
    assert steps == "red\n"
    assert foreign.startswith("Prediction(label='red'")
    assert [json.loads(line)["label"] for line in camera.splitlines()] == ["red", "blue"]
    assert source.startswith("connected")
    assert error.startswith("the image: ")
    assert testing == "dark\nlight\n"


def _example(name):
    return CHECKOUT / "examples" / f"{name}.py"


def _frame(color):
    """A noisy frame of one colour, uint8 [48, 64, 3] BGR."""
    frame_hwc_bgr_u8 = np.random.default_rng(0).integers(0, 60, (48, 64, 3)).astype(np.uint8)
    frame_hwc_bgr_u8[:, :, CHANNELS_BGR[color]] += 180
    return frame_hwc_bgr_u8
