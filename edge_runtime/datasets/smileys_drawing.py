"""Pens, colours and the pose for the drawn faces: OpenCV fixed-point drawing and nothing else.

Every shape is a list of points that we transform ourselves and hand to OpenCV in 1/16 pixel. That keeps the bytes the
same from one machine to the next, which an interpolating image warp would not.
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
    """Where the face sits: a projective map from face units to pixels.

    In face units the head is about the unit circle around (0, 0), so the chin is near (0, 1).

    Attributes:
        matrix: float64 [3, 3], homogeneous.
        radius_px: about how many pixels one face unit spans.
        center_px: where (0, 0) lands, (x, y).
    """

    matrix: Points
    radius_px: float
    center_px: tuple[float, float]

    def place(self, points: Points) -> Points:
        """Maps face units [N, 2] to pixels [N, 2]."""
        homogeneous = np.column_stack([points, np.ones(len(points))]) @ self.matrix.T
        return np.asarray(homogeneous[:, :2] / homogeneous[:, 2:], dtype=np.float64)


def random_pose(rng: np.random.Generator, size_px: int, min_scale: float = 0.4, max_scale: float = 0.95) -> Pose:
    """Draws position, scale, rotation, shear and a slight perspective.

    Large, upright and central faces are the more frequent; the turn reaches 35 degrees either way.

    Args:
        rng: the only source of chance.
        size_px: edge of the frame in pixels.
        min_scale: least head diameter as a share of the frame, 0..1.
        max_scale: greatest head diameter as a share of the frame, 0..1.

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
    """Points [33, 2] along an ellipse, or along a part of it; 90 degrees is down."""
    angle = np.deg2rad(np.linspace(start_deg, stop_deg, 33))
    return np.column_stack([center[0] + radii[0] * np.cos(angle), center[1] + radii[1] * np.sin(angle)])


def line(*points: tuple[float, float]) -> Points:
    """Points [N, 2] from pairs."""
    return np.array(points, dtype=np.float64)


def _fixed(points_px: Points) -> npt.NDArray[np.int32]:
    return np.round(points_px * (1 << SUBPIXEL_BITS)).astype(np.int32)


def fill(image: Image, points_px: Points, colour: Colour) -> None:
    """Fills a polygon in place; points in pixels."""
    cv2.fillPoly(image, [_fixed(points_px)], colour, cv2.LINE_AA, SUBPIXEL_BITS)


def stroke(image: Image, points_px: Points, colour: Colour, width_px: float, closed: bool = False) -> None:
    """Draws a line through points in place, at least one pixel wide; points in pixels."""
    width = max(1, round(width_px))
    cv2.polylines(image, [_fixed(points_px)], closed, colour, width, cv2.LINE_AA, SUBPIXEL_BITS)


def luma(colour: Colour) -> int:
    """Brightness of a colour, 0..255."""
    return sum(weight * value for weight, value in zip(LUMA_WEIGHTS, colour, strict=True)) // 1000


def random_colour(rng: np.random.Generator, low: int = 0, high: int = 255) -> Colour:
    """A colour with each channel within low..high."""
    red, green, blue = rng.integers(low, high + 1, size=3).tolist()
    return red, green, blue


def shifted(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    """The colour with each channel moved by up to `spread` either way, within 0..255."""
    red, green, blue = np.clip(np.array(colour) + rng.integers(-spread, spread + 1, size=3), 0, 255).tolist()
    return red, green, blue


def contrasting(rng: np.random.Generator, ground: Colour, gap: int = 95) -> Colour:
    """A random colour at least `gap` brighter or darker than `ground`; black or white when chance finds none."""
    for _ in range(12):
        colour = random_colour(rng)
        if abs(luma(colour) - luma(ground)) >= gap:
            return colour
    return (0, 0, 0) if luma(ground) > 127 else (255, 255, 255)
