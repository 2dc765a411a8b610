"""Built-in data set `smileys`: drawn happy and sad faces, made on the spot, so that nothing need be downloaded.

The corners of the mouth tell the label and nothing else does: pose, colours, eyes, brows, background, light and noise
are drawn from the same distributions for both. A linear model on the pixels therefore does little better than chance,
and a small convolutional network does far better. Half of the faces are on a sheet of paper or on a screen within a
busy picture, which is what a camera sees when someone holds one up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from edge_runtime.datasets.smileys_drawing import (
    REFERENCE_SIZE_PX,
    Colour,
    Image,
    Pose,
    contrasting,
    random_colour,
    random_pose,
    shifted,
)
from edge_runtime.datasets.smileys_face import Sketch, Style, draw_face
from edge_runtime.datasets.smileys_scene import camera, clutter, occlude, plain, room, sheet, textured

LABELS: Final[tuple[str, ...]] = ("happy", "sad")
VERSION: Final[int] = 1
"""Raised whenever a change to the code changes a pixel."""

MIN_SIZE_PX: Final = 32
_YELLOW: Final[Colour] = (250, 205, 50)
_PAPER: Final[Colour] = (240, 238, 230)
_THEMES: Final = ("emoji", "emoji", "emoji", "paper", "paper", "paper", "paper", "screen", "dark", "free")


def draw_smiley(label: str, rng: np.random.Generator, size_px: int = 128) -> Image:
    """Draws one face.

    Args:
        label: one of `LABELS`.
        rng: the only source of chance; the picture is a function of it, the label and the size.
        size_px: edge of the square picture in pixels, at least 32.

    Returns:
        uint8 [size_px, size_px, 3], RGB, 0..255.

    Raises:
        ValueError: if the label is unknown or the size too small to show a face.
    """
    if label not in LABELS:
        raise ValueError(f"unknown label {label!r}: expected one of {', '.join(LABELS)}")
    if size_px < MIN_SIZE_PX:
        raise ValueError(f"size_px is {size_px}: expected at least {MIN_SIZE_PX}")
    theme = str(rng.choice(_THEMES))
    on_sheet = theme in ("paper", "screen")
    pose = random_pose(rng, size_px, max_scale=0.8 if on_sheet else 0.95)
    style = _style(rng, theme)
    image = _background(rng, theme, size_px, pose, style)
    draw_face(Sketch(image, pose, style, rng), happy=label == "happy")
    if rng.random() < 0.08:
        occlude(rng, image, pose)
    if rng.random() < 0.05:
        image = 255 - image
    return camera(rng, image, pose.radius_px * REFERENCE_SIZE_PX / size_px)


def iter_smileys(count: int, seed: int) -> Iterator[tuple[str, str, Image]]:
    """Draws a balanced data set, the labels taking turns.

    Args:
        count: how many pictures, at least 0; an odd count has one more of the first label.
        seed: at least 0. Picture number i depends on the seed and on i alone, so a longer set begins with the shorter.

    Yields:
        Label, file stem (like `happy_00012`), and picture (uint8 [128, 128, 3], RGB).
    """
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        rng = np.random.default_rng([seed, VERSION, index])
        yield label, f"{label}_{index:05d}", draw_smiley(label, rng)


def _style(rng: np.random.Generator, theme: str) -> Style:
    """Colours and lines for a theme; the pen always stands out from its ground."""
    filled, outlined = False, rng.random() < 0.85
    if theme == "emoji":
        ground, filled, outlined = shifted(rng, _YELLOW, 25), True, rng.random() < 0.6
    elif theme == "paper":
        ground = shifted(rng, _PAPER, 15)
    elif theme == "screen":
        ground = random_colour(rng, 70)
        filled, outlined = rng.random() < 0.4, True
    elif theme == "dark":
        ground = random_colour(rng, 0, 50)
    else:
        ground = random_colour(rng, 70)
        filled = rng.random() < 0.6
    dark_pen = theme in ("emoji", "paper") and rng.random() < 0.8
    pen = random_colour(rng, 0, 70) if dark_pen else contrasting(rng, ground)
    return Style(pen, ground, filled, outlined, width=rng.uniform(0.08, 0.14), wobble=rng.uniform(0.0, 0.02))


def _background(rng: np.random.Generator, theme: str, size_px: int, pose: Pose, style: Style) -> Image:
    """What is behind the face: busy behind a filled head or a sheet, quiet where the lines lie on it directly."""
    if theme in ("paper", "screen"):
        image = room(rng, size_px)
        bezel = random_colour(rng, 0, 60) if theme == "screen" else None
        sheet(rng, image, pose, shifted(rng, style.ground, 12), bezel)
        return image
    if style.filled:
        return room(rng, size_px)
    image = plain(rng, size_px, style.ground)
    if rng.random() < 0.4:
        textured(rng, image, int(rng.integers(5, 22)))
    if rng.random() < 0.4:
        clutter(rng, image, int(rng.integers(3, 20)), keep_out=pose)
    return image
