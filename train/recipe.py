"""Recipes: everything that decides a training, as frozen dataclasses.

A recipe holds exactly one architecture, ``cnn`` or ``mobilenetv2``. Every other field is required, so that a run's
``recipe.toml`` says all. `train.recipe_files` reads and writes them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from edge_runtime.contract import Crop, InputSpec
from edge_runtime.errors import UsageError

MIN_IMAGE_SIZE_PX = 32
MAX_IMAGE_SIZE_PX = 1024
MOBILENETV2_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
WEIGHTS_NONE = "none"
WEIGHTS_IMAGENET = "imagenet"


class Pool(str, enum.Enum):
    """How the last feature map becomes one vector."""

    AVERAGE = "average"
    MAX = "max"
    FLATTEN = "flatten"


@dataclass(frozen=True)
class InputSettings:
    """Geometry of the model's square input; see `edge_runtime.contract.InputSpec`."""

    image_size: int
    crop: Crop
    crop_fraction: float

    def __post_init__(self) -> None:
        if not MIN_IMAGE_SIZE_PX <= self.image_size <= MAX_IMAGE_SIZE_PX:
            limits = f"{MIN_IMAGE_SIZE_PX} to {MAX_IMAGE_SIZE_PX}"
            raise ValueError(f"image_size must be {limits} pixels, got {self.image_size}")
        self.spec()

    def spec(self) -> InputSpec:
        """The same as the contract says it."""
        return InputSpec(self.image_size, self.image_size, self.crop, self.crop_fraction)


@dataclass(frozen=True)
class CnnSettings:
    """A stack of convolution blocks (3x3 convolution, batch normalisation, ReLU, 2x2 max pooling) and a dense head.

    The first block halves the picture by a stride of 2 instead of pooling, since it is the most expensive one.

    Attributes:
        filters: Output channels of each block.
        first_kernel: Side of the first block's convolution, odd, in pixels.
        pool: How the last feature map becomes a vector.
        dense_units: Width of the hidden layer; 0 leaves it out.
        dropout: Share of values dropped before each dense layer, in [0, 1).
    """

    filters: tuple[int, ...]
    first_kernel: int
    pool: Pool
    dense_units: int
    dropout: float

    def __post_init__(self) -> None:
        if not 1 <= len(self.filters) <= 8 or not all(1 <= count <= 4096 for count in self.filters):
            raise ValueError(f"filters must be 1 to 8 numbers from 1 to 4096, got {list(self.filters)}")
        if self.first_kernel not in (1, 3, 5, 7, 9, 11):
            raise ValueError(f"first_kernel must be an odd number from 1 to 11, got {self.first_kernel}")
        _check_head(self.dense_units, self.dropout)


@dataclass(frozen=True)
class MobileNetV2Settings:
    """A MobileNetV2 backbone, frozen unless it starts from random weights, and a dense head.

    Attributes:
        alpha: Width multiplier, one of `MOBILENETV2_ALPHAS`; a weight file overrules it.
        weights: ``imagenet``, ``none``, or the path of a no-top ``.h5`` file.
        dense_units: Width of the hidden layer; 0 leaves it out.
        dropout: Share of values dropped before each dense layer, in [0, 1).
    """

    alpha: float
    weights: str
    dense_units: int
    dropout: float

    def __post_init__(self) -> None:
        if self.alpha not in MOBILENETV2_ALPHAS:
            raise ValueError(f"alpha must be one of {', '.join(map(str, MOBILENETV2_ALPHAS))}, got {self.alpha}")
        _check_head(self.dense_units, self.dropout)

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone keeps the weights it starts from."""
        return self.weights != WEIGHTS_NONE


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes to training pictures. On a frozen backbone only ``mirror`` counts, as features are cached.

    Attributes:
        mirror: Whether left and right may change places.
        rotation: Largest turn either way, as a share of a full turn.
        shift: Largest move along each axis, as a share of the side.
        zoom: Largest change of scale either way, as a share.
        brightness: Largest change of brightness either way, as a share of the range.
        contrast: Largest change of contrast either way, as a share.
    """

    mirror: bool
    rotation: float
    shift: float
    zoom: float
    brightness: float
    contrast: float

    def __post_init__(self) -> None:
        for name in ("rotation", "shift", "zoom", "brightness", "contrast"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class FitSettings:
    """The optimisation: Adam, the learning rate rising in a line and then falling to 0 along a cosine.

    The best epoch by validation is kept.

    Attributes:
        epochs: At most so many passes over the training pictures.
        batch_size: Pictures per step.
        learning_rate: The highest.
        warmup: Share of all steps over which the learning rate rises to it, in [0, 0.5].
        patience: Epochs without a better one after which training stops; 0 never stops early.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    patience: int

    def __post_init__(self) -> None:
        for name, least, most in (("epochs", 1, 10_000), ("batch_size", 1, 4096), ("patience", 0, 10_000)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be {least} to {most}, got {getattr(self, name)}")
        if not 0.0 < self.learning_rate <= 10.0:
            raise ValueError(f"learning_rate must be above 0 and at most 10, got {self.learning_rate}")
        if not 0.0 <= self.warmup <= 0.5:
            raise ValueError(f"warmup must be 0 to 0.5, got {self.warmup}")


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the pictures that are held out where the source does not say; the rest is for training."""

    validation: float
    test: float

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0.0 or not self.validation + self.test < 1.0:
            found = f"{self.validation} and {self.test}"
            raise ValueError(f"validation and test must be above 0 and together below 1, got {found}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, apart from the pictures.

    Attributes:
        name: Short name.
        summary: One line for ``edge-train recipes``.
        seed: Seed of split, initialisation, shuffling and augmentation, 0 to 2^32 - 1.
        input: Geometry.
        augment: Random changes to training pictures.
        fit: Optimisation.
        split: Shares held out.
        cnn: A network from scratch, or None.
        mobilenetv2: Transfer learning, or None.
    """

    name: str
    summary: str
    seed: int
    input: InputSettings
    augment: AugmentSettings
    fit: FitSettings
    split: SplitSettings
    cnn: CnnSettings | None = None
    mobilenetv2: MobileNetV2Settings | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or not self.summary.isprintable():
            raise ValueError(f"name and summary must be one printable line each, got {self.name!r} {self.summary!r}")
        if not 0 <= self.seed < 1 << 32:
            raise ValueError(f"seed must be 0 to {(1 << 32) - 1}, got {self.seed}")
        if (self.cnn is None) == (self.mobilenetv2 is None):
            raise ValueError("expected exactly one of the tables [cnn] and [mobilenetv2]")
        if self.cnn is not None and self.input.image_size >> len(self.cnn.filters) < 1:
            halvings = len(self.cnn.filters)
            raise ValueError(
                f"image_size {self.input.image_size} is too small for {halvings} blocks that halve it each"
            )

    @property
    def weights(self) -> str:
        """What training starts from: ``none``, ``imagenet`` or the path of a weight file."""
        return self.mobilenetv2.weights if self.mobilenetv2 else WEIGHTS_NONE


@dataclass(frozen=True)
class Overrides:
    """Options of the command line that replace a recipe's fields; None leaves them."""

    epochs: int | None = None
    image_size: int | None = None
    batch_size: int | None = None
    weights: str | None = None
    seed: int | None = None


def override(recipe: Recipe, options: Overrides) -> Recipe:
    """Apply options of the command line.

    Raises:
        UsageError: An option is out of range or does not go with the recipe.
    """
    try:
        fit = replace(
            recipe.fit,
            epochs=recipe.fit.epochs if options.epochs is None else options.epochs,
            batch_size=recipe.fit.batch_size if options.batch_size is None else options.batch_size,
        )
        geometry = replace(
            recipe.input, image_size=recipe.input.image_size if options.image_size is None else options.image_size
        )
        seed = recipe.seed if options.seed is None else options.seed
        return replace(_with_weights(recipe, options.weights), fit=fit, input=geometry, seed=seed)
    except ValueError as error:
        raise UsageError(f"recipe {recipe.name}: {error}") from error


def _with_weights(recipe: Recipe, weights: str | None) -> Recipe:
    if weights is None or weights == recipe.weights:
        return recipe
    if recipe.mobilenetv2 is None:
        raise UsageError(f"recipe {recipe.name} trains from scratch: --weights {weights} does not go with it")
    return replace(recipe, mobilenetv2=replace(recipe.mobilenetv2, weights=weights))


def _check_head(dense_units: int, dropout: float) -> None:
    if not 0 <= dense_units <= 65536:
        raise ValueError(f"dense_units must be 0 to 65536, got {dense_units}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
