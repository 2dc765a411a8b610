"""Write images of every kind that OpenCV writes here, and a video: arm64_pictures.py FOLDER.

`test_arm64_conformance.py` runs it. FOLDER gets ``images``, of odd sizes and upright or turned by EXIF, and
``video.avi``.
"""

import struct
import sys
from pathlib import Path

import cv2
import numpy as np

VIDEO_FRAMES = 12


def main(folder):
    """Write everything."""
    _write_video(folder / "video.avi")
    folder = folder / "pictures"
    folder.mkdir()
    for stem, suffix, size_hw, options in _kinds():
        if cv2.haveImageWriter(suffix):
            _write(folder / f"{stem}{suffix}", _scene(*size_hw), options)
    _write(folder / "grey.jpg", _scene(211, 333)[:, :, 1])
    _write(folder / "grey.png", _scene(61, 47)[:, :, 1])
    _write(folder / "16bit.png", _scene(90, 120).astype(np.uint16) * 257)
    _write(folder / "alpha.png", np.dstack([_scene(133, 98), _scene(133, 98)[:, :, 0]]))
    _write(folder / "alpha.webp", np.dstack([_scene(133, 98), _scene(133, 98)[:, :, 0]]))
    upright = (folder / "q95.jpg").read_bytes()
    for orientation in range(2, 9):
        (folder / f"exif{orientation}.jpg").write_bytes(_with_orientation(upright, orientation))
    (folder / "truncated.jpg").write_bytes(upright[: len(upright) // 2])


def _write(path, image, options=None):
    if not cv2.imwrite(str(path), image, options or []):
        raise OSError(f"{path}: OpenCV cannot write it")


def _scene(height, width):
    """Something like a photo, uint8 [height, width, 3]: slopes, edges, and noise of several sizes."""
    rng = np.random.default_rng(height * 10_000 + width)
    image = np.full((height, width, 3), 128.0)
    for cell in (1, 4, 16, 64):
        coarse = rng.normal(0, 22, (-(-height // cell), -(-width // cell), 3))
        image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.circle(image, (width // 2, height // 3), min(height, width) // 4, (30, 200, 240), -1)
    return np.clip(image, 0, 255).astype(np.uint8)


def _write_video(path):
    """Motion JPEG; the first half of the frames is blue, the other red."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    for number in range(VIDEO_FRAMES):
        frame_hwc_bgr_u8 = _scene(64, 96) // 2
        frame_hwc_bgr_u8[:, :, 0 if number < VIDEO_FRAMES // 2 else 2] += 100
        writer.write(frame_hwc_bgr_u8)
    writer.release()


def _kinds():
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


def _with_orientation(jpeg, orientation):
    """The JPEG with an EXIF segment of one entry, Orientation (tag 0x0112, one SHORT)."""
    tiff = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    exif = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
