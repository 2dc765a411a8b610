"""Built-in dataset `smileys`: drawn happy and sad faces.

Only the corners of the mouth depend on the label (`draw_mouth`): pose, colours, eyes, brows, background, light and
noise are drawn from the same distributions for both. A linear model on the pixels therefore does little better than
chance, and a small convolutional network far better. Half of the faces are on a sheet of paper or a screen within a
cluttered image, as a camera sees a face that is held up.
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
    """Drawing style of a face.

    Attributes:
        pen: Colour of the lines.
        ground: Colour behind the features; it fills the head if ``filled``.
        filled: True if the head hides the background.
        outlined: True if the head has an outline.
        width: Line width in face units (1 is the head's radius).
        wobble: Amplitude of the lines' wobble, in face units.
    """

    pen: Colour
    ground: Colour
    filled: bool
    outlined: bool
    width: float
    wobble: float


class Sketch:
    """Image with a pose and a style, on which parts are drawn in face units."""

    def __init__(self, image: Image, pose: Pose, style: Style, rng: np.random.Generator) -> None:
        self.image = image
        self.pose = pose
        self.style = style
        self.rng = rng
        thinnest = 2 * image.shape[0] / REFERENCE_SIZE_PX
        self.width_px = max(thinnest, style.width * pose.radius_px)

    def pen(self, points: Points, closed: bool = False, colour: Colour | None = None, width: float = 1.0) -> None:
        """Draw a line in face units; ``width`` multiplies the style's own."""
        steps = np.linspace(0.0, self.rng.uniform(3.0, 9.0), len(points))
        phase = self.rng.uniform(0.0, 6.3, size=2)
        shaky = points + self.style.wobble * np.sin(steps[:, None] + phase)
        stroke(self.image, self.pose.place(shaky), colour or self.style.pen, width * self.width_px, closed)

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon given in face units."""
        fill(self.image, self.pose.place(points), colour)


def draw_face(sketch: Sketch, happy: bool) -> None:
    """Draw the whole face; the mouth comes last, so that no other part covers it."""
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
    """Draw a round, oval, squarish or egg-shaped head, filled or outlined, or none; sometimes with hair or ears."""
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
    """Draw a cap of hair or a few strands on top of the head."""
    rng = sketch.rng
    colour = contrasting(rng, sketch.style.ground, gap=50)
    if rng.random() < 0.4:
        sketch.fill(ellipse((0.0, -0.02), (0.98, 1.05), rng.uniform(205, 222), rng.uniform(318, 335)), colour)
        return
    for x in np.linspace(-0.5, 0.5, int(rng.integers(3, 8))).tolist():
        tip = (x + rng.uniform(-0.2, 0.2), -1.0 - rng.uniform(0.1, 0.3))
        sketch.pen(line((x, -0.85), tip), colour=colour)


def draw_cheeks(sketch: Sketch) -> None:
    """Draw two discs in a reddish colour close to the ground."""
    red, green, blue = sketch.style.ground
    colour = (min(255, red + 25), max(0, green - 45), max(0, blue - 20))
    radius, height = sketch.rng.uniform(0.1, 0.17), sketch.rng.uniform(0.1, 0.25)
    for side in (-1.0, 1.0):
        sketch.fill(ellipse((side * 0.66, height), (radius, radius)), colour)


def draw_eyes(sketch: Sketch) -> None:
    """Draw a pair of eyes in one of eight styles. Arched eyes bend up or down independently of the mouth."""
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
    """Draw one eye of the given style; ``bend``, +1 or -1, applies to an arch only."""
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
    """Draw straight brows at any slope, mirrored or parallel."""
    rng = sketch.rng
    slope, height = rng.uniform(-0.12, 0.12), rng.uniform(-0.72, -0.62)
    mirror = 1.0 if rng.random() < 0.7 else -1.0
    for side, sign in ((-1.0, 1.0), (1.0, mirror)):
        inner, outer = (side * 0.2, height + sign * slope), (side * 0.52, height - sign * slope)
        sketch.pen(line(inner, outer))


def draw_nose(sketch: Sketch) -> None:
    """Draw a dot, a stroke, a hook or a small bow that bends either way."""
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
    """Make a line from the left corner of the mouth to the right one, its mean at height zero.

    Args:
        rng: Random generator, for the shape (arc, or polyline of two to four pieces) and the place of the apex.
        half_width: Half the distance between the corners, in face units.
        depth: Height between the apex and the corners, in face units.
        happy: True for corners above the apex, False for below.

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
    """Draw the mouth, the only part that depends on the label: corners up or down.

    The mouth is a line, a crescent or an open D, off-centre and slightly askew. Both labels use the same distributions
    and their mouths fill the same rows on average, so that the height reveals nothing.
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
    """Draw an open mouth: dark, coloured, white, or only its outline."""
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
"""Version of the images; raise it with every change of the code that changes a pixel."""

MIN_SIZE_PX: Final = 32
_YELLOW: Final[Colour] = (250, 205, 50)
_PAPER: Final[Colour] = (240, 238, 230)
_THEMES: Final = ("emoji", "emoji", "emoji", "paper", "paper", "paper", "paper", "screen", "dark", "free")


def draw_smiley(label: str, rng: np.random.Generator, size_px: int = 128) -> Image:
    """Draw one face.

    Args:
        label: Label from `LABELS`.
        rng: Random generator; it, the label and the size determine the image.
        size_px: Edge of the square image in pixels, at least 32.

    Returns:
        uint8 [size_px, size_px, 3], RGB, 0..255.

    Raises:
        ValueError: The label is unknown or the size is too small.
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
    """Draw a balanced set, the labels alternating.

    Args:
        count: Number of images, at least 0; an odd count has one more of the first label.
        seed: Random seed, at least 0. Image i depends on the seed and i alone, so a longer set begins with the shorter.

    Yields:
        Label, file stem (such as ``happy_00012``), and image (uint8 [128, 128, 3], RGB).
    """
    for index in range(count):
        label = LABELS[index % len(LABELS)]
        rng = np.random.default_rng([seed, VERSION, index])
        yield label, f"{label}_{index:05d}", draw_smiley(label, rng)


def _style(rng: np.random.Generator, theme: str) -> Style:
    """Choose colours and lines for a theme; the pen always contrasts with the ground."""
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
    """Draw the background: busy behind a filled head or a sheet, quiet where the lines lie on it directly."""
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
