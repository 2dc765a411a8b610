"""Drawing for the smileys: OpenCV fixed-point pens, colours and pose, backgrounds and camera effects.

Shapes are lists of points, transformed here and passed to OpenCV in 1/16 pixel. Unlike an interpolating image warp this
gives the same bytes on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], RGB, 0..255."""

Points = npt.NDArray[np.float64]
"""float64 [N, 2], (x, y) with y pointing down."""

Colour = tuple[int, int, int]
"""Red, green, blue, each 0..255."""

SUBPIXEL_BITS: Final = 4
REFERENCE_SIZE_PX: Final = 128
LUMA_WEIGHTS: Final = (299, 587, 114)  # ITU-R BT.601, in thousandths


@dataclass(frozen=True)
class Pose:
    """Placement of the face: a projective map from face units to pixels.

    In face units the head is about the unit circle around (0, 0), so the chin is near (0, 1).

    Attributes:
        matrix: float64 [3, 3], homogeneous.
        radius_px: Approximate size of one face unit, in pixels.
        center_px: Image of (0, 0) as (x, y), in pixels.
    """

    matrix: Points
    radius_px: float
    center_px: tuple[float, float]

    def place(self, points: Points) -> Points:
        """Map face units [N, 2] to pixels [N, 2]."""
        homogeneous = np.column_stack([points, np.ones(len(points))]) @ self.matrix.T
        return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:], dtype=np.float64)


def random_pose(rng: np.random.Generator, size_px: int, min_scale: float = 0.4, max_scale: float = 0.95) -> Pose:
    """Choose position, scale, rotation, shear and a slight perspective at random.

    Large, upright and central faces are the more frequent; the turn reaches 35 degrees either way.

    Args:
        rng: Random generator of every choice.
        size_px: Edge of the frame in pixels.
        min_scale: Smallest head diameter as a share of the frame, 0..1.
        max_scale: Largest head diameter as a share of the frame, 0..1.

    Returns:
        A pose whose head lies inside the frame, or very nearly.
    """
    scale = max_scale - (max_scale - min_scale) * rng.uniform() ** 3
    radius = size_px * scale / 2
    free = max(size_px / 2 - 0.95 * radius, 0.0)
    center_x, center_y = (size_px / 2 + free * rng.triangular(-1.0, 0.0, 1.0, size=2)).tolist()
    angle = np.deg2rad(rng.triangular(-35.0, 0.0, 35.0))
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    shear, squeeze = rng.uniform(-0.15, 0.15), rng.uniform(0.88, 1.0)
    linear = np.array([[cos, -sin], [sin, cos]]) @ np.array([[squeeze, shear], [0.0, 1.0]]) * radius
    tilt = rng.uniform(-0.1, 0.1, size=2)
    center = np.array([center_x, center_y])
    matrix = np.zeros((3, 3))
    matrix[:2, :2] = linear + np.outer(center, tilt)
    matrix[:2, 2] = center
    matrix[2] = [tilt[0], tilt[1], 1.0]
    return Pose(matrix, float(radius), (center_x, center_y))


def ellipse(
    center: tuple[float, float], radii: tuple[float, float], start_deg: float = 0.0, stop_deg: float = 360.0
) -> Points:
    """Return points [33, 2] along an ellipse or a part of it; 90 degrees is down."""
    angle = np.deg2rad(np.linspace(start_deg, stop_deg, 33))
    return np.column_stack([center[0] + radii[0] * np.cos(angle), center[1] + radii[1] * np.sin(angle)])


def line(*points: tuple[float, float]) -> Points:
    """Return points [N, 2] from pairs."""
    return np.array(points, dtype=np.float64)


def _fixed(points_px: Points) -> npt.NDArray[np.int32]:
    return np.round(points_px * (1 << SUBPIXEL_BITS)).astype(np.int32)


def fill(image: Image, points_px: Points, colour: Colour) -> None:
    """Fill a polygon in place; points in pixels."""
    cv2.fillPoly(image, [_fixed(points_px)], colour, cv2.LINE_AA, SUBPIXEL_BITS)


def stroke(image: Image, points_px: Points, colour: Colour, width_px: float, closed: bool = False) -> None:
    """Draw a line through points in place, at least one pixel wide; points in pixels."""
    width = max(1, round(width_px))
    cv2.polylines(image, [_fixed(points_px)], closed, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)


def luma(colour: Colour) -> int:
    """Compute the brightness of a colour, 0..255."""
    return sum(weight * value for weight, value in zip(LUMA_WEIGHTS, colour, strict=True)) // 1000


def random_colour(rng: np.random.Generator, low: int = 0, high: int = 255) -> Colour:
    """Choose a colour with each channel within low..high."""
    red, green, blue = rng.integers(low, high + 1, size=3).tolist()
    return red, green, blue


def shifted(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    """Shift each channel of a colour by up to ``spread`` either way, within 0..255."""
    red, green, blue = np.clip(np.array(colour) + rng.integers(-spread, spread + 1, size=3), 0, 255).tolist()
    return red, green, blue


def contrasting(rng: np.random.Generator, ground: Colour, gap: int = 95) -> Colour:
    """Choose a colour at least ``gap`` brighter or darker than ``ground``, else black or white."""
    for _ in range(12):
        colour = random_colour(rng)
        if abs(luma(colour) - luma(ground)) >= gap:
            return colour
    return (0, 0, 0) if luma(ground) > 127 else (255, 255, 255)


def plain(rng: np.random.Generator, size_px: int, colour: Colour) -> Image:
    """Draw one colour, or a gradient around it that stays close enough for a visible pen."""
    image = np.empty((size_px, size_px, 3), dtype=np.uint8)
    if rng.random() < 0.5:
        image[:] = colour
        return image
    other = shifted(rng, colour, 40)
    weight = _ramp(rng, size_px)[..., None]
    image[:] = np.round(np.array(colour) * (1.0 - weight) + np.array(other) * weight)
    return image


def _ramp(rng: np.random.Generator, size_px: int) -> npt.NDArray[np.float64]:
    """Make a slope from 0 to 1 in a random direction, [size, size]."""
    angle = rng.uniform(0.0, 2 * np.pi)
    axis = np.arange(size_px) / max(size_px - 1, 1) - 0.5
    slope = float(np.cos(angle)) * axis[None, :] + float(np.sin(angle)) * axis[:, None]
    return np.asarray(np.clip(slope * 0.7 + 0.5, 0.0, 1.0))


def textured(rng: np.random.Generator, image: Image, spread: int) -> None:
    """Add blotches of random size to the image in place."""
    size = image.shape[0]
    cell = int(rng.choice([1, 2, 4, 8, 16])) * max(1, size // REFERENCE_SIZE_PX)
    cells = -(-size // cell)
    blotches = rng.integers(-spread, spread + 1, size=(cells, cells, 1 if rng.random() < 0.5 else 3))
    full = np.repeat(np.repeat(blotches, cell, axis=0), cell, axis=1)[:size, :size]
    image[:] = np.clip(image + full, 0, 255)


def clutter(rng: np.random.Generator, image: Image, count: int, keep_out: Pose | None = None) -> None:
    """Draw rectangles, lines, rings and bows (bent either way) in place, none of them close to the face.

    Args:
        rng: Random generator of every choice.
        image: uint8 [H, W, 3], changed in place.
        count: Number of shapes to try.
        keep_out: Head that no shape may reach into, or None.
    """
    size = image.shape[0]
    for _ in range(count):
        x, y = (rng.uniform(0.0, 1.0, size=2) * size).tolist()
        radius = size * rng.uniform(0.04, 0.22)
        kind, colour, start = int(rng.integers(0, 5)), random_colour(rng), rng.uniform(0.0, 360.0)
        width_px = size / REFERENCE_SIZE_PX * rng.uniform(1.0, 5.0)
        if keep_out is not None:
            away = np.hypot(x - keep_out.center_px[0], y - keep_out.center_px[1])
            if away < 1.15 * keep_out.radius_px + radius:
                continue
        box = ellipse((x, y), (radius, radius * rng.uniform(0.4, 1.0)))
        if kind == 0:
            fill(image, box[4::8], colour)
        elif kind == 1:
            fill(image, box, colour)
        elif kind == 2:
            stroke(image, box, colour, width_px, closed=True)
        elif kind == 3:
            stroke(image, ellipse((x, y), (radius, radius), start, start + rng.uniform(60, 200)), colour, width_px)
        else:
            turn = np.deg2rad(start)
            reach = (radius * float(np.cos(turn)), radius * float(np.sin(turn)))
            stroke(image, line((x - reach[0], y - reach[1]), (x + reach[0], y + reach[1])), colour, width_px)


def room(rng: np.random.Generator, size_px: int) -> Image:
    """Draw a busy background: any colour, gradients, blotches and shapes."""
    image = plain(rng, size_px, random_colour(rng))
    if rng.random() < 0.4:
        textured(rng, image, int(rng.integers(10, 60)))
    if rng.random() < 0.65:
        clutter(rng, image, int(rng.integers(2, 14)))
    return image


def sheet(rng: np.random.Generator, image: Image, pose: Pose, colour: Colour, bezel: Colour | None) -> None:
    """Draw a sheet of paper (or a screen, if there is a bezel) under the face, in its pose."""
    left, top = -rng.uniform(1.15, 1.9), -rng.uniform(1.15, 1.9)
    right, bottom = rng.uniform(1.15, 1.9), rng.uniform(1.15, 1.9)
    corners = line((left, top), (right, top), (right, bottom), (left, bottom))
    if bezel is not None:
        edge = rng.uniform(1.06, 1.2)
        fill(image, pose.place(corners * edge), bezel)
    fill(image, pose.place(corners), colour)
    if bezel is None and rng.random() < 0.35:
        ink, step = shifted(rng, (170, 190, 220), 25), rng.uniform(0.25, 0.45)
        grid = rng.random() < 0.4
        for y in np.arange(top + step, bottom, step).tolist():
            stroke(image, pose.place(line((left, y), (right, y))), ink, 1)
        for x in np.arange(left + step, right, step).tolist() if grid else []:
            stroke(image, pose.place(line((x, top), (x, bottom))), ink, 1)


def occlude(rng: np.random.Generator, image: Image, pose: Pose) -> None:
    """Cover a part of the face with a stripe or a blob, never the middle of the mouth and at most one corner."""
    colour = random_colour(rng)
    if rng.random() < 0.5:
        angle = rng.uniform(-0.4, 0.4)
        height, thick = rng.uniform(-1.0, -0.25), rng.uniform(0.06, 0.16)
        band = line(
            (-2, height - angle), (2, height + angle), (2, height + angle + thick), (-2, height - angle + thick)
        )
        if rng.random() < 0.4:
            band = band[:, ::-1] * 0.8
        fill(image, pose.place(band), colour)
        return
    around = np.deg2rad(rng.uniform(0.0, 360.0))
    radius = rng.uniform(0.15, 0.35)
    away = 0.7 + radius
    at = (away * float(np.cos(around)), 0.44 + away * float(np.sin(around)))
    fill(image, pose.place(ellipse(at, (radius, radius * rng.uniform(0.6, 1.0)))), colour)


def camera(rng: np.random.Generator, image: Image, detail_px: float) -> Image:
    """Apply light, blur, noise and compression, weaker for small faces.

    Args:
        rng: Random generator of every choice.
        image: uint8 [H, W, 3], RGB.
        detail_px: Radius of the head in pixels of a 128-pixel image, which limits the blur.

    Returns:
        A new image of the same shape and type.
    """
    if rng.random() < 0.35:
        image = _blur(image, int(rng.integers(1, 2 + round(detail_px / 20))))
    elif rng.random() < 0.2:
        image = _smear(image, int(rng.integers(2, 3 + round(detail_px / 12))), int(rng.integers(0, 2)))
    if rng.random() < 0.35:
        shade = 1.0 - rng.uniform(0.1, 0.45) * _ramp(rng, image.shape[0])
        image = np.round(image * shade[..., None]).astype(np.uint8)
    if rng.random() < 0.6:
        image = _tone(rng)[image]
    if rng.random() < 0.4:
        noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(2.0, 12.0))
        image = np.clip(np.round(image + noise), 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        image = _compress(image, int(rng.integers(35, 90)))
    return image


def _tone(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Make a lookup table [256] that changes gamma, contrast and brightness."""
    level = np.arange(256) / 255.0
    level = level ** rng.uniform(0.65, 1.5)
    level = 0.5 + (level - 0.5) * rng.uniform(0.65, 1.1) + rng.uniform(-0.12, 0.12)
    return np.round(np.clip(level, 0.0, 1.0) * 255.0).astype(np.uint8)


def _blur(image: Image, times: int) -> Image:
    """Blur by about a Gaussian of variance times / 2, with integer [1, 2, 1] filters."""
    wide = image.astype(np.int32)
    for _ in range(times):
        for axis in (0, 1):
            before, after = np.roll(wide, 1, axis), np.roll(wide, -1, axis)
            wide = (before + 2 * wide + after + 2) >> 2
    return wide.astype(np.uint8)


def _smear(image: Image, length: int, axis: int) -> Image:
    """Blur by a movement of the camera: the mean of ``length`` shifted copies along an axis."""
    total = np.zeros(image.shape, dtype=np.uint16)
    for shift in range(length):
        total += np.roll(image, shift - length // 2, axis)
    return ((total + length // 2) // length).astype(np.uint8)


def _compress(image: Image, quality: int) -> Image:
    """Compress to JPEG and decode; quality 1..100."""
    _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)
