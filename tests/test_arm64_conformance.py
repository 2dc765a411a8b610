"""The answer is the same on a Raspberry Pi as here: the built wheel on the real aarch64 wheels, emulated processors.

``make test-arm64`` prepares the emulation (see `arm64_root.sh`) and installs what lies in the checkout. Each processor
is asked once, and both at the same time, because emulation is slow; its times say nothing about a board.
"""

import dataclasses
import json
import os
import shutil
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.contract import GOLDEN_FILE, MANIFEST_FILE, Crop, InputSpec, Variant
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.strict import to_mapping
from support.paths import CHECKOUT, PROGRAMS
from support.programs import run

ROOT = Path(os.environ.get("EDGEKIT_ARM64_ROOT", CHECKOUT / ".arm64"))
CPUS = ("cortex-a72", "cortex-a76")  # Raspberry Pi 4 and 5
BROKEN_WHEEL = 9  # exit code of arm64_root.sh
SPECS = (
    InputSpec(224, 224),
    InputSpec(160, 160, crop_fraction=0.875),
    InputSpec(96, 128, crop=Crop.STRETCH),
    InputSpec(192, 192, crop=Crop.LETTERBOX),
    InputSpec(32, 32),
)
SMILEYS = 40
REAL_FOLDERS = ("cats_and_dogs", "flowers", "awkward_images")
REAL_PER_FOLDER = 20
CORAL_LABELS = 1001
VIDEO_FRAMES = 12
TIMES = ("latency_ms", "age_ms")
FLOAT_TOLERANCE = 1e-6
KERAS_TOLERANCE = 1e-4
VIDEO_TOLERANCE = 0.05


pytestmark = [
    pytest.mark.arm64,
    pytest.mark.skipif(
        not (ROOT / "system").exists(),
        reason="no emulated arm64 here; make test-arm64 prepares it (EDGEKIT_ARM64_ROOT names another folder)",
    ),
]


@pytest.fixture(scope="module")
def guest():
    """The folder of the emulation, in which the sources as they are now are installed."""
    done = run(CHECKOUT / "tests/programs/arm64_root.sh", timeout_s=None)
    assert done.returncode != BROKEN_WHEEL, done.stderr
    if done.returncode:
        pytest.skip(f"the emulated arm64 cannot be brought up to date ({done.stderr.strip()})")
    return ROOT


@pytest.fixture(scope="module")
def made_files(tmp_path_factory):
    """A folder of ``images`` of every kind that OpenCV writes here, and ``video.avi``."""
    folder = tmp_path_factory.mktemp("made")
    run(sys.executable, PROGRAMS / "arm64_images.py", folder, check=True)
    return folder


@pytest.fixture(scope="module")
def made_images(made_files):
    return sorted((made_files / "pictures").iterdir())


@pytest.fixture(scope="module")
def real_images(real_data):
    """A spread of each folder of real photos; none of a folder that is not there."""
    found = {}
    for name in REAL_FOLDERS:
        try:
            files = sorted(path for path in real_data(name).rglob("*") if path.is_file())
        except pytest.skip.Exception:
            continue
        found[name] = files[:: max(1, len(files) // REAL_PER_FOLDER)] if name != "awkward_images" else files
    return found


@pytest.fixture(scope="module")
def bundle(small_bundle, tmp_path_factory):
    """A trained bundle with the two variants whose answers are promised to the last bits."""
    folder = tmp_path_factory.mktemp("arm64") / "bundle"
    shutil.copytree(small_bundle, folder)
    manifest = read_bundle_manifest(folder)
    kept = tuple(item for item in manifest.artifacts if item.variant in (Variant.FLOAT32, Variant.INT8))
    (folder / MANIFEST_FILE).write_text(dataclasses.replace(manifest, artifacts=kept).to_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def questions(tmp_path_factory, made_files, made_images, real_images, real_data, bundle):
    """What every machine is asked: a name, and the arguments of ``edge-run``; for ``probe`` those of the probe."""
    folder = tmp_path_factory.mktemp("questions")
    images = [*made_images, *(file for files in real_images.values() for file in files)]
    request = {"pictures": list(map(str, images)), "specs": [to_mapping(spec) for spec in SPECS]}
    request |= {"smileys": SMILEYS, "bundle": str(bundle)}
    (folder / "request.json").write_text(json.dumps(request))
    int8 = [str(bundle), "--variant", "int8", "--format", "jsonl"]
    camera = ["camera", *int8, "--source", str(made_files / "video.avi")]
    asked = {
        "probe": [str(folder / "request.json")],
        "classify": ["classify", *int8, *map(str, made_images)],
        "camera": camera,
        "live": [*camera, "--realtime", "--loop", "--max-frames", "2"],
        "doctor": ["doctor", str(bundle), "--json"],
    }
    try:
        coral, photos = real_data("coral"), real_images["flowers"][::4] + real_images["cats_and_dogs"][::4]
    except (pytest.skip.Exception, KeyError):
        return asked
    foreign = [str(coral / "tf2_mobilenet_v2_1.0_224_ptq.tflite"), "--labels", str(coral / "imagenet_labels.txt")]
    every = ["--crop", "center", "--top-k", str(CORAL_LABELS), "--format", "jsonl"]
    return {**asked, "coral": ["classify", *foreign, *every, *map(str, photos)]}


@pytest.fixture(scope="module")
def here(questions, tmp_path_factory):
    """The answers of this machine, from the checkout."""
    python = Path(sys.executable)
    return _ask(python, python.with_name("edge-run"), questions, tmp_path_factory.mktemp("here"))


@pytest.fixture(scope="module")
def pending(guest, questions, tmp_path_factory):
    """The answers of each processor that the emulator knows, as they come."""
    known = [cpu for cpu in CPUS if (guest / f"python-{cpu}").exists()]
    with ThreadPoolExecutor(len(known)) as pool:
        machines = {cpu: (guest / f"python-{cpu}", guest / f"edge-run-{cpu}") for cpu in known}
        yield {cpu: pool.submit(_ask, *machines[cpu], questions, tmp_path_factory.mktemp(cpu)) for cpu in known}


@pytest.fixture(scope="module", params=CPUS)
def there(request, pending):
    """The answers of one emulated processor."""
    if request.param not in pending:
        pytest.skip(f"the emulator does not know {request.param}")
    return pending[request.param].result()


def test_the_wheel_holds_every_file_of_the_packages(guest):
    (wheel,) = (guest / "wheel").glob("*.whl")
    packages = ("edge_runtime", "train", "convert", "benchmarks")
    files = [path.relative_to(CHECKOUT) for package in packages for path in (CHECKOUT / package).rglob("*.*")]
    checkout_only = {f"benchmarks/{name}" for name in ("peers", "mlperf_tiny", "studies")}
    shipped = [file for file in files if not checkout_only & set(map(str, file.parents))]
    expected = {str(file) for file in shipped if file.suffix not in (".md", ".pyc")}
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert "edge_runtime/py.typed" in held
    assert held == expected


def test_guest_is_arm64(guest, here, there):
    # Paths that the guest lacks fall through to this machine, so a wrong start could pass unnoticed.
    assert (here["machine"], there["machine"]) == ("x86_64", "aarch64")
    # ... and what is tested is what was installed.
    assert (guest / "device").resolve() in Path(there["package"]).parents


def test_made_images_become_the_same_pixels(made_images, here, there):
    assert _differing(here, there, made_images) == []
    refused = {path.name for path in made_images if "error" in here["pictures"][str(path)]}
    assert refused == {"truncated.jpg"}


@pytest.mark.parametrize("name", REAL_FOLDERS)
def test_real_images_become_the_same_pixels(name, real_data, real_images, here, there):
    real_data(name)  # skips where it is absent
    assert len(real_images[name]) >= REAL_PER_FOLDER
    assert _differing(here, there, real_images[name]) == []


def test_smileys_are_drawn_the_same(here, there):
    assert len(here["smileys"]) == SMILEYS
    assert there["smileys"] == here["smileys"], _versions(here, there)


def test_int8_probabilities_are_the_same_bit_for_bit(here, there):
    assert there["probabilities"]["int8"] == here["probabilities"]["int8"], _versions(here, there)


def test_float32_probabilities_are_those_of_keras(bundle, here, there):
    device = np.array(there["probabilities"]["float32"])
    np.testing.assert_allclose(device, here["probabilities"]["float32"], rtol=0, atol=FLOAT_TOLERANCE)
    with np.load(bundle / GOLDEN_FILE) as golden:
        np.testing.assert_allclose(device, golden["keras"], rtol=0, atol=KERAS_TOLERANCE)


def test_edge_run_classify_says_the_same(made_images, here, there):
    assert len(here["classify"]) == len(made_images)
    assert there["classify"] == here["classify"], _versions(here, there)


def test_corals_mobilenet_says_the_same_of_every_label(here, there):
    """A model from elsewhere, so it first runs in a child process of the guest. Its scores are steps of 1/256."""
    if "coral" not in here:
        pytest.skip("no photos or no Coral model beside the checkout (EDGEKIT_TEST_DATA names another folder)")
    assert {len(record["top"]) for record in here["coral"]} == {CORAL_LABELS}
    assert len({record["label"] for record in here["coral"]}) > 1
    assert there["coral"] == here["coral"], _versions(here, there)


def test_edge_run_camera_says_the_same_of_a_video(here, there):
    """But for FFmpeg, which turns frames into RGB by other instructions and so differs by a grey level or two."""
    assert len(here["camera"]) == VIDEO_FRAMES
    assert len({record["label"] for record in here["camera"]}) > 1
    for ours, theirs in zip(here["camera"], there["camera"], strict=True):
        assert theirs["score"] == pytest.approx(ours["score"], abs=VIDEO_TOLERANCE)
        for field in ("frame", "time_s", "label"):
            assert theirs[field] == ours[field]
        for field in ("label", "event"):
            assert theirs["decision"][field] == ours["decision"][field]


def test_a_camera_is_captured_by_a_process_of_its_own(there):
    answers = [record for record in there["live"] if "label" in record]
    assert len(answers) == 2
    assert there["live"][0]["state"] == "connected"


def test_doctor_finds_nothing_wrong(there):
    (report,) = there["doctor"]
    assert report["problems"] == 0, report["findings"]
    found = {finding["topic"]: finding for finding in report["findings"]}
    assert "aarch64" in found["python"]["found"]
    assert {found["int8"]["level"], found["float32"]["level"]} == {"ok"}, found


def _ask(python, edge_run, questions, folder):
    """Ask one machine everything: what the probe answers, and under each other name the records that came.

    A command that fails leaves what it wrote on standard error instead, for the test to show.
    """
    answer_file = folder / "answer.json"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["EDGEKIT_CACHE"] = str(folder / "cache")

    options = {"env": environment, "cwd": folder, "timeout_s": 600}
    done = run(python, PROGRAMS / "arm64_probe.py", *questions["probe"], answer_file, **options)
    assert done.returncode == 0, done.stderr
    answer = json.loads(answer_file.read_text())
    for name, arguments in questions.items():
        if name != "probe":
            done = run(edge_run, *arguments, **options)
            answer[name] = _records(done.stdout) if done.returncode in (0, 1) else done.stderr
    return answer


def _records(text):
    """One JSON object, or one a line, without how long something took."""
    lines = [text] if text.startswith("{\n") else text.splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


def _differing(here, there, images):
    """Which steps of which images gave other pixels or another error, and with which versions."""
    steps = [
        f"{path.name}: {step}"
        for path in images
        for step, result in here["pictures"][str(path)].items()
        if there["pictures"][str(path)].get(step) != result
    ]
    return [*steps, _versions(here, there)] if steps else []


def _versions(here, there):
    return f"here {here['versions']}, on arm64 {there['versions']}"
