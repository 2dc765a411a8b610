"""Built-in dataset `smileys`: happy and sad faces, drawn on the spot.

Only `draw_mouth` knows the label; every other part is drawn the same way for both.

The corners of the mouth tell the label and nothing else does: pose, colours, eyes, brows, background, light and noise
are drawn from the same distributions for both. A linear model on the pixels therefore does little better than chance,
and a small convolutional network does far better. Half of the faces are on a sheet of paper or on a screen within a
busy image, which is what a camera sees when someone holds one up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.workstation.datasets.smileys_drawing import (
    REFERENCE_SIZE_PX,
    Colour,
    Image,
    Points,
    Pose,
    camera,
    clutter,
    contrasting,
    ellipse,
    fill,
    line,
    luma,
    occlude,
    plain,
    random_colour,
    random_pose,
    room,
    sheet,
    shifted,
    stroke,
    textured,
)


@dataclass(frozen=True)
class Style:
    """How the face is drawn.

    Attributes:
        pen: colour of the lines.
        ground: colour that the features lie on; the head is filled with it when `filled`.
        filled: the head hides what is behind it.
        outlined: the head has a line around it.
        width: line width in face units (1 is the head's radius).
        wobble: how far a shaky hand strays, in face units.
    """

    pen: Colour
    ground: Colour
    filled: bool
    outlined: bool
    width: float
    wobble: float


class Sketch:
    """An image, a pose and a style together, so that the parts can be drawn in face units."""

    def __init__(self, image: Image, pose: Pose, style: Style, rng: np.random.Generator) -> None:
        self.image = image
        self.pose = pose
        self.style = style
        self.rng = rng
        thinnest = 2 * image.shape[0] / REFERENCE_SIZE_PX
        self.width_px = max(thinnest, style.width * pose.radius_px)

    def pen(self, points: Points, closed: bool = False, colour: Colour | None = None, width: float = 1.0) -> None:
        """Draws a line in face units; `width` multiplies the style's own."""
        steps = np.linspace(0.0, self.rng.uniform(3.0, 9.0), len(points))
        phase = self.rng.uniform(0.0, 6.3, size=2)
        shaky = points + self.style.wobble * np.sin(steps[:, None] + phase)
        stroke(self.image, self.pose.place(shaky), colour or self.style.pen, width * self.width_px, closed)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fills a polygon given in face units."""
        fill(self.image, self.pose.place(points), colour)


def draw_face(sketch: Sketch, happy: bool) -> None:
    """Draws the whole face; the mouth comes last so that nothing of the face covers it."""
    rng = sketch.rng
    draw_head(sketch)
    if rng.random() < 0.2:
        draw_cheeks(sketch)
    draw_eyes(sketch)
    if rng.random() < 0.3:
        draw_brows(sketch)
    if rng.random() < 0.3:
        draw_nose(sketch)
    draw_mouth(sketch, happy)


def draw_head(sketch: Sketch) -> None:
    """Round, oval, squarish or egg-shaped, filled or outlined, or nothing at all; sometimes with hair or ears."""
    rng, style = sketch.rng, sketch.style
    if not (style.filled or style.outlined):
        return
    angle = np.linspace(0.0, 2 * np.pi, 49)[:-1]
    cos, sin = np.cos(angle), np.sin(angle)
    power = 1.0 if rng.random() < 0.7 else rng.uniform(0.45, 0.8)  # below 1: towards a square
    egg = 1.0 + rng.uniform(-0.12, 0.12) * sin
    x = np.sign(cos) * np.abs(cos) ** power * rng.uniform(0.85, 1.0) * egg
    y = np.sign(sin) * np.abs(sin) ** power * rng.uniform(0.9, 1.05)
    head = np.column_stack([x, y])
    if rng.random() < 0.15:
        for side in (-1.0, 1.0):
            sketch.pen(ellipse((side * 0.98, 0.0), (0.14, 0.2)), closed=True)
    if style.filled:
        sketch.fill(head, style.ground)
    if style.outlined:
        sketch.pen(head, closed=True)
    if rng.random() < 0.25:
        draw_hair(sketch)


def draw_hair(sketch: Sketch) -> None:
    """A cap of hair or a few strands on the top of the head."""
    rng = sketch.rng
    colour = contrasting(rng, sketch.style.ground, gap=50)
    if rng.random() < 0.4:
        sketch.fill(ellipse((0.0, -0.02), (0.98, 1.05), rng.uniform(205, 222), rng.uniform(318, 335)), colour)
        return
    for x in np.linspace(-0.5, 0.5, int(rng.integers(3, 8))).tolist():
        tip = (x + rng.uniform(-0.2, 0.2), -1.0 - rng.uniform(0.1, 0.3))
        sketch.pen(line((x, -0.85), tip), colour=colour)


def draw_cheeks(sketch: Sketch) -> None:
    """Two blushing discs, in a colour close to the ground."""
    red, green, blue = sketch.style.ground
    colour = (min(255, red + 25), max(0, green - 45), max(0, blue - 20))
    radius, height = sketch.rng.uniform(0.1, 0.17), sketch.rng.uniform(0.1, 0.25)
    for side in (-1.0, 1.0):
        sketch.fill(ellipse((side * 0.66, height), (radius, radius)), colour)


def draw_eyes(sketch: Sketch) -> None:
    """A pair of eyes in one of eight styles. Arched eyes bend up or down whatever the mouth does."""
    rng = sketch.rng
    style = str(rng.choice(["dot", "dot", "oval", "ring", "ball", "arch", "cross", "dash", "glasses"]))
    spread, height = rng.uniform(0.27, 0.42), rng.uniform(-0.42, -0.2)
    size = rng.uniform(0.09, 0.16)
    bend = 1.0 if rng.random() < 0.5 else -1.0
    gaze = rng.uniform(-0.4, 0.4, size=2) * size
    for side in (-1.0, 1.0):
        x, y = side * spread + rng.uniform(-0.02, 0.02), height + rng.uniform(-0.03, 0.03)
        draw_eye(sketch, style, (x, y), size, bend, (float(gaze[0]), float(gaze[1])))
    if style == "glasses":
        sketch.pen(line((-spread + 1.7 * size, height), (spread - 1.7 * size, height)))


def draw_eye(
    sketch: Sketch, style: str, at: tuple[float, float], size: float, bend: float, gaze: tuple[float, float]
) -> None:
    """One eye of the given style; `bend` is +1 or -1 and only matters to an arch."""
    (x, y), pen = at, sketch.style.pen
    pupil = (x + gaze[0], y + gaze[1])
    if style == "dot":
        sketch.fill(ellipse(at, (size, size)), pen)
    elif style == "oval":
        sketch.fill(ellipse(at, (0.75 * size, 1.5 * size)), pen)
    elif style == "ring":
        sketch.pen(ellipse(at, (1.2 * size, 1.2 * size)), closed=True, width=0.8)
    elif style == "ball":
        white, black = ((255, 255, 255), (10, 10, 10)) if luma(pen) < 128 else ((10, 10, 10), (255, 255, 255))
        sketch.fill(ellipse(at, (1.4 * size, 1.6 * size)), white)
        sketch.pen(ellipse(at, (1.4 * size, 1.6 * size)), closed=True, width=0.6)
        sketch.fill(ellipse(pupil, (0.6 * size, 0.6 * size)), black)
    elif style == "arch":
        start = 180.0 if bend > 0 else 0.0
        sketch.pen(ellipse((x, y + 0.5 * bend * size), (1.4 * size, 1.3 * size), start, start + 180.0))
    elif style == "cross":
        sketch.pen(line((x - size, y - size), (x + size, y + size)))
        sketch.pen(line((x - size, y + size), (x + size, y - size)))
    elif style == "dash":
        sketch.pen(line((x - 1.2 * size, y), (x + 1.2 * size, y)))
    else:
        sketch.pen(ellipse(at, (1.7 * size, 1.6 * size)), closed=True, width=0.8)
        sketch.fill(ellipse(pupil, (0.6 * size, 0.6 * size)), pen)


def draw_brows(sketch: Sketch) -> None:
    """Straight brows at any slope, mirrored or parallel."""
    rng = sketch.rng
    slope, height = rng.uniform(-0.12, 0.12), rng.uniform(-0.72, -0.62)
    mirror = 1.0 if rng.random() < 0.7 else -1.0
    for side, sign in ((-1.0, 1.0), (1.0, mirror)):
        inner, outer = (side * 0.2, height + sign * slope), (side * 0.52, height - sign * slope)
        sketch.pen(line(inner, outer))


def draw_nose(sketch: Sketch) -> None:
    """A dot, a stroke, a hook or a small bow that bends either way."""
    rng = sketch.rng
    style, side = int(rng.integers(0, 4)), (1.0 if rng.random() < 0.5 else -1.0)
    if style == 0:
        sketch.fill(ellipse((0.0, 0.0), (0.07, 0.07)), sketch.style.pen)
    elif style == 1:
        sketch.pen(line((0.0, -0.15), (0.0, 0.05)), width=0.8)
    elif style == 2:
        sketch.pen(line((0.0, -0.18), (side * 0.1, 0.04), (0.0, 0.05)), width=0.8)
    else:
        sketch.pen(ellipse((0.0, 0.0), (0.09, 0.07), 90 - 90 * side, 270 - 90 * side), width=0.8)


def mouth_curve(rng: np.random.Generator, half_width: float, depth: float, happy: bool) -> Points:
    """A line from the left corner of the mouth to the right one, its mean at height zero.

    Args:
        rng: chooses a bow, a round or flat arc, or a polyline of two to four pieces, and where its apex lies.
        half_width: half the distance between the corners, in face units.
        depth: height between the apex and the corners, in face units.
        happy: corners above the apex; below it otherwise.

    Returns:
        float64 [N, 2] in face units, N 3..25.
    """
    pieces = int(rng.integers(2, 5)) if rng.random() < 0.2 else 24
    t = np.linspace(-1.0, 1.0, pieces + 1)
    profile = 1.0 - np.abs(t) ** rng.uniform(1.7, 2.8)
    x = half_width * (t + rng.uniform(-0.2, 0.2) * (1.0 - t * t))
    y = depth * (profile - 0.5) / max(float(profile.max()), 0.5)
    return np.column_stack([x, y if happy else -y])


def draw_mouth(sketch: Sketch, happy: bool) -> None:
    """The one part that tells the label: corners up or corners down.

    A line, a crescent or an open D, off-centre and slightly askew. Both labels draw from the same distributions and
    their mouths fill the same rows on average, so that height alone tells nothing.
    """
    rng = sketch.rng
    half_width = rng.uniform(0.46, 0.6)
    depth = min(0.5, half_width * rng.uniform(0.7, 1.0))
    lip = mouth_curve(rng, half_width, depth, happy)
    askew = rng.uniform(-0.1, 0.1)
    center = np.array([rng.uniform(-0.08, 0.08), rng.uniform(0.38, 0.46)])
    lean = np.array([[1.0, askew], [0.0, 1.0]])
    if rng.random() < 0.6:
        sketch.pen(lip @ lean + center, width=rng.uniform(1.0, 1.4))
        return
    chord = lip[::-1] * np.array([1.0, rng.uniform(-0.1, 0.35)])  # 0 is straight: an open D; more: a crescent
    chord[:, 1] += lip[0, 1] - chord[-1, 1]
    draw_open_mouth(sketch, np.vstack([lip, chord]) @ lean + center)


def draw_open_mouth(sketch: Sketch, shape: Points) -> None:
    """An open mouth: dark, red, white, or only its outline."""
    rng, style = sketch.rng, sketch.style
    kind = rng.random()
    if kind < 0.4:
        sketch.fill(shape, style.pen)
    elif kind < 0.6:
        sketch.fill(shape, contrasting(rng, style.ground, gap=70))
    elif kind < 0.75:
        sketch.fill(shape, shifted(rng, (225, 225, 225), 30) if luma(style.pen) < 128 else random_colour(rng, 0, 60))
    sketch.pen(shape, closed=True, width=0.8)


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
        rng: the only source of chance; the image is a function of it, the label and the size.
        size_px: edge of the square image in pixels, at least 32.

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
        count: how many images, at least 0; an odd count has one more of the first label.
        seed: at least 0. Image number i depends on the seed and on i alone, so a longer set begins with the shorter.

    Yields:
        Label, file stem (like `happy_00012`), and image (uint8 [128, 128, 3], RGB).
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
