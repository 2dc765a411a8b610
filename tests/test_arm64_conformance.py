"""The answer is the same on a Raspberry Pi as here: the real aarch64 wheels, on emulated processors.

``make test-arm64`` prepares the emulation (see `arm64_root.sh`). Each processor gets one process, because emulation is
slow; its times say nothing about a board.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.contract import GOLDEN_FILE, Crop, InputSpec
from edge_runtime.strict import to_mapping

CHECKOUT = Path(__file__).resolve().parents[1]
ROOT = Path(os.environ.get("EDGEKIT_ARM64_ROOT", CHECKOUT / ".arm64"))
CPUS = ("cortex-a72", "cortex-a76")  # Raspberry Pi 4 and 5
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
FLOAT_TOLERANCE = 1e-6
KERAS_TOLERANCE = 1e-4

Answer = dict[str, Any]
FindData = Callable[[str], Path]

pytestmark = [
    pytest.mark.arm64,
    pytest.mark.skipif(
        not (ROOT / f"python-{CPUS[0]}").exists(),
        reason="no emulated arm64 here; tests/arm64_root.sh prepares it (EDGEKIT_ARM64_ROOT names another folder)",
    ),
]


@pytest.fixture(scope="module")
def made_pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of every kind that OpenCV writes here, of odd sizes and upright or turned by EXIF."""
    folder = tmp_path_factory.mktemp("pictures")
    for stem, suffix, size_hw, options in _kinds():
        if cv2.haveImageWriter(suffix):
            assert cv2.imwrite(str(folder / f"{stem}{suffix}"), _scene(*size_hw), options)
    cv2.imwrite(str(folder / "grey.jpg"), _scene(211, 333)[:, :, 1])
    cv2.imwrite(str(folder / "grey.png"), _scene(61, 47)[:, :, 1])
    cv2.imwrite(str(folder / "16bit.png"), _scene(90, 120).astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([_scene(133, 98), _scene(133, 98)[:, :, 0]]))
    cv2.imwrite(str(folder / "alpha.webp"), np.dstack([_scene(133, 98), _scene(133, 98)[:, :, 0]]))
    upright = (folder / "q95.jpg").read_bytes()
    for orientation in range(2, 9):
        (folder / f"exif{orientation}.jpg").write_bytes(_with_orientation(upright, orientation))
    (folder / "truncated.jpg").write_bytes(upright[: len(upright) // 2])
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def real_pictures(real_data: FindData) -> dict[str, list[Path]]:
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
def request_file(
    tmp_path_factory: pytest.TempPathFactory,
    made_pictures: list[Path],
    real_pictures: dict[str, list[Path]],
    small_bundle: Path,
) -> Path:
    """The questions to both machines."""
    path = tmp_path_factory.mktemp("probe") / "request.json"
    pictures = [*made_pictures, *(file for files in real_pictures.values() for file in files)]
    request = {
        "pictures": [str(picture) for picture in pictures],
        "specs": [to_mapping(spec) for spec in SPECS],
        "smileys": SMILEYS,
        "bundle": str(small_bundle),
        "classify": [str(picture) for picture in made_pictures],
        "records": str(path.with_name("records.jsonl")),
    }
    path.write_text(json.dumps(request))
    return path


@pytest.fixture(scope="module")
def here(request_file: Path) -> Answer:
    """The answers of this machine."""
    return _ask(Path(sys.executable), request_file)


@pytest.fixture(scope="module", params=CPUS)
def there(request: pytest.FixtureRequest, request_file: Path) -> Answer:
    """The answers of one emulated processor."""
    python = ROOT / f"python-{request.param}"
    if not python.exists():
        pytest.skip(f"the emulator does not know {request.param}")
    return _ask(python, request_file)


def test_guest_is_arm64(here: Answer, there: Answer):
    # Paths that the guest lacks fall through to this machine, so a wrong start could pass unnoticed.
    assert there["machine"] == "aarch64"
    assert here["machine"] == "x86_64"


def test_made_pictures_become_the_same_pixels(made_pictures: list[Path], here: Answer, there: Answer):
    assert _differing(here, there, made_pictures) == []
    refused = {path.name for path in made_pictures if "error" in here["pictures"][str(path)]}
    assert refused == {"truncated.jpg"}


@pytest.mark.parametrize("name", REAL_FOLDERS)
def test_real_pictures_become_the_same_pixels(
    name: str, real_data: FindData, real_pictures: dict[str, list[Path]], here: Answer, there: Answer
):
    real_data(name)  # skips where it is absent
    assert len(real_pictures[name]) >= REAL_PER_FOLDER
    assert _differing(here, there, real_pictures[name]) == []


def test_smileys_are_drawn_the_same(here: Answer, there: Answer):
    assert len(here["smileys"]) == SMILEYS
    assert there["smileys"] == here["smileys"], _versions(here, there)


def test_int8_probabilities_are_the_same_bit_for_bit(here: Answer, there: Answer):
    assert there["probabilities"]["int8"] == here["probabilities"]["int8"], _versions(here, there)


def test_float32_probabilities_are_those_of_keras(small_bundle: Path, here: Answer, there: Answer):
    device = np.array(there["probabilities"]["float32"])
    np.testing.assert_allclose(device, here["probabilities"]["float32"], rtol=0, atol=FLOAT_TOLERANCE)
    with np.load(small_bundle / GOLDEN_FILE) as golden:
        np.testing.assert_allclose(device, golden["keras"], rtol=0, atol=KERAS_TOLERANCE)


def test_edge_run_classify_says_the_same(made_pictures: list[Path], here: Answer, there: Answer):
    assert len(here["records"]) == len(made_pictures)
    assert there["records"] == here["records"], _versions(here, there)


def _ask(python: Path, request_file: Path) -> Answer:
    answer_file = request_file.with_name("answer.json")
    command = [python, Path(__file__).with_name("arm64_probe.py"), request_file, answer_file]
    # The checkout is named, so that the guest, which has edgekit's dependencies only, tests what lies here.
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    answer: Answer = json.loads(answer_file.read_text())
    answer_file.unlink()
    return answer


def _differing(here: Answer, there: Answer, pictures: list[Path]) -> list[str]:
    """Which steps of which pictures gave other pixels or another error, and with which versions."""
    steps = [
        f"{path.name}: {step}"
        for path in pictures
        for step, result in here["pictures"][str(path)].items()
        if there["pictures"][str(path)].get(step) != result
    ]
    return [*steps, _versions(here, there)] if steps else []


def _versions(here: Answer, there: Answer) -> str:
    return f"here {here['versions']}, on arm64 {there['versions']}"


def _scene(height: int, width: int) -> NDArray[np.uint8]:
    """Something like a photo, uint8 [height, width, 3]: slopes, edges, and noise of several sizes."""
    rng = np.random.default_rng(height * 10_000 + width)
    image = np.full((height, width, 3), 128.0)
    for cell in (1, 4, 16, 64):
        coarse = rng.normal(0, 22, (-(-height // cell), -(-width // cell), 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.circle(image, (width // 2, height // 3), min(height, width) // 4, (30, 200, 240), -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def _kinds() -> list[tuple[str, str, tuple[int, int], list[int]]]:
    """Stem, suffix, size (height, width) in pixels and OpenCV's options of the files to make."""
    quality, sampling = cv2.IMWRITE_JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR
    samplings = {
        "411": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
        "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        "440": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
        "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    }
    return [
        *((f"q{value}", ".jpg", (301, 457), [quality, value]) for value in (20, 60, 95, 100)),
        *((f"sampling{name}", ".jpg", (259, 173), [sampling, value]) for name, value in samplings.items()),
        ("progressive", ".jpg", (333, 222), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        ("restart", ".jpg", (480, 640), [cv2.IMWRITE_JPEG_RST_INTERVAL, 7]),
        ("large", ".jpg", (1203, 1601), [quality, 90]),
        ("tiny", ".jpg", (3, 5), []),
        ("tall", ".png", (509, 31), []),
        ("one", ".png", (1, 1), []),
        ("exact", ".png", (224, 224), []),
        ("lossy", ".webp", (301, 457), [cv2.IMWRITE_WEBP_QUALITY, 75]),
        ("lossless", ".webp", (101, 157), [cv2.IMWRITE_WEBP_QUALITY, 101]),
        *(("other", suffix, (121, 83), []) for suffix in (".bmp", ".tiff", ".gif", ".avif")),
    ]


def _with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment of one entry, Orientation (tag 0x0112, one SHORT)."""
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
