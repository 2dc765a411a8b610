"""Small images and videos: arrays, encoded bytes and files."""

import cv2
import numpy as np


def noisy_images(count, side=24, seed=0):
    """Make noise, uint8 [count, side, side, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)


def plain_image(value, height=12, width=12):
    """Make an image of one colour, uint8 [height, width, 3]; ``value`` is a grey level, or three values."""
    return np.full((height, width, 3), value, np.uint8)


def encode(image_hwc_bgr_u8, suffix=".jpg", *parameters):
    """Encode an image as OpenCV does for a suffix; ``parameters`` are those of `cv2.imencode`."""
    is_encoded, data = cv2.imencode(suffix, image_hwc_bgr_u8, list(parameters))
    assert is_encoded
    return data.tobytes()


def write_image(path, image_hwc_bgr_u8):
    """Write an image file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image_hwc_bgr_u8)
    return path


def write_images(folder, values, suffix=".png"):
    """Write ``folder/000.png`` and so on, 12 x 12 pixels each of one colour (BGR), in the order of ``values``."""
    return [write_image(folder / f"{index:03d}{suffix}", plain_image(value)) for index, value in enumerate(values)]


def write_video(path, frames, fps=20.0, codec="MJPG"):
    """Write frames, uint8 [H, W, 3] BGR, all of one size, as a video."""
    frames = list(frames)
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path
