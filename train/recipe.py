"""Recipes: all settings of a training, read from TOML files and changed by command-line options.

A recipe holds exactly one architecture, ``cnn`` or ``backbone``. Every other table except ``finetune`` is required, and
so is every field, so that ``recipe.toml`` of a run is complete.

The built-in recipes are in ``train/recipes``; each begins with a comment that states its command, the expected accuracy
and the expected time.
"""

from __future__ import annotations

import enum
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.contract import Crop, Head, InputSpec
from edge_runtime.errors import ManifestError, UsageError
from edge_runtime.strict import from_mapping, open_regular, to_mapping

RECIPE_FILE = "recipe.toml"
WEIGHTS_NONE, WEIGHTS_IMAGENET = "none", "imagenet"
_FOLDER = Path(__file__).parent / "recipes"
_MAX_RECIPE_BYTES = 1 << 20


class Pool(str, enum.Enum):
    """Reduction of the last feature map to one vector."""

    AVERAGE = "average"
    MAX = "max"
    FLATTEN = "flatten"


class BackboneName(str, enum.Enum):
    """Networks of `keras.applications` that convert well to small devices."""

    MOBILENETV2 = "mobilenetv2"
    MOBILENETV3_SMALL = "mobilenetv3-small"
    MOBILENETV3_LARGE = "mobilenetv3-large"
    EFFICIENTNET_B0 = "efficientnet-b0"
    EFFICIENTNETV2_B0 = "efficientnetv2-b0"

    @property
    def alphas(self) -> tuple[float, ...]:
        """Width multipliers for which ImageNet weights are published."""
        if self is BackboneName.MOBILENETV2:
            return 0.35, 0.5, 0.75, 1.0, 1.3, 1.4
        return (0.75, 1.0) if self in (BackboneName.MOBILENETV3_SMALL, BackboneName.MOBILENETV3_LARGE) else (1.0,)


class OptimizerName(str, enum.Enum):
    """Optimiser of Keras."""

    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Schedule(str, enum.Enum):
    """Learning rate schedule after warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"


class ClassWeights(str, enum.Enum):
    """Weight of an image in the loss."""

    EQUAL = "equal"
    BALANCED = "balanced"


class ThresholdRule(str, enum.Enum):
    """Rule for the decision threshold of a sigmoid head."""

    HALF = "half"
    F1 = "f1"


@dataclass(frozen=True)
class InputSettings:
    """Geometry of the model's square input; see `edge_runtime.contract.InputSpec`."""

    image_size: int
    crop: Crop
    crop_fraction: float

    def __post_init__(self) -> None:
        _check_ranges(self, image_size=(32, 1024))
        self.spec()

    def spec(self) -> InputSpec:
        """Convert to the input specification of the contract."""
        return InputSpec(self.image_size, self.image_size, self.crop, self.crop_fraction)


@dataclass(frozen=True)
class CnnSettings:
    """Network trained from scratch: blocks of 3x3 convolutions with ReLU, each of which halves the image.

    Attributes:
        filters: Output channels of each block, 1 to 4096; 1 to 8 blocks.
        first_kernel: Side of the first kernel in pixels, odd, 1 to 11.
        first_stride: Stride of the first convolution: 2 halves the image there instead of by pooling, which is faster.
        convolutions: Convolutions per block before its 2x2 max pooling, 1 to 8.
        batch_norm: True to follow each convolution by batch normalisation.
        block_dropout: Share of values dropped after each block, in [0, 1).
        pool: Reduction of the last feature map to a vector.
        pixels_low: Value of pixel 0 inside the graph, from -1000.
        pixels_high: Value of pixel 255 inside the graph, up to 1000.
    """

    filters: tuple[int, ...]
    first_kernel: int
    first_stride: int
    convolutions: int
    batch_norm: bool
    block_dropout: float
    pool: Pool
    pixels_low: float
    pixels_high: float

    def __post_init__(self) -> None:
        if not 1 <= len(self.filters) <= 8 or not all(1 <= count <= 4096 for count in self.filters):
            raise ValueError(f"filters must be 1 to 8 numbers from 1 to 4096, got {list(self.filters)}")
        if self.first_kernel not in (1, 3, 5, 7, 9, 11):
            raise ValueError(f"first_kernel must be an odd number from 1 to 11, got {self.first_kernel}")
        _check_ranges(self, first_stride=(1, 2), convolutions=(1, 8))
        _check_share("block_dropout", self.block_dropout)
        if not -1000.0 <= self.pixels_low < self.pixels_high <= 1000.0:
            found = f"{self.pixels_low} and {self.pixels_high}"
            raise ValueError(f"pixels_low must be below pixels_high, both from -1000 to 1000, got {found}")


@dataclass(frozen=True)
class BackboneSettings:
    """Network of `keras.applications` without its top, frozen at first unless it starts from random weights.

    Attributes:
        name: Network of `keras.applications`.
        alpha: Width multiplier; the weight file of a MobileNetV2 overrides it.
        weights: ``imagenet``, ``none``, or the path of a no-top ``.h5`` file.
        views: Versions of each training image that pass through the frozen backbone, 1 to 64: the image itself and
            augmented ones. Their features are computed once.
    """

    name: BackboneName
    alpha: float
    weights: str
    views: int

    def __post_init__(self) -> None:
        if self.alpha not in self.name.alphas:
            choices = ", ".join(map(str, self.name.alphas))
            raise ValueError(f"alpha of {self.name.value} must be one of {choices}, got {self.alpha}")
        _check_ranges(self, views=(1, 64))
        if not self.weights:
            raise ValueError("weights must be imagenet, none or the path of a .h5 file, got nothing")

    @property
    def is_frozen(self) -> bool:
        """True if the backbone keeps its initial weights until fine-tuning."""
        return self.weights != WEIGHTS_NONE


@dataclass(frozen=True)
class HeadSettings:
    """Layers after the features.

    Attributes:
        kind: Activation: ``softmax`` over all labels, or one ``sigmoid`` neuron for two labels.
        dense_units: Width of a hidden layer; 0 omits it.
        dropout: Share of values dropped before each dense layer, in [0, 1).
        threshold: Threshold of a sigmoid head: ``half`` is 0.5, ``f1`` has the best F1 of the second label on the
            validation images. A softmax head takes ``half``.
        calibrate: True to fit a temperature on validation and fold it into the last layer, so that answers with a
            score of 0.8 are right about 8 times in 10. The answers stay the same.
    """

    kind: Head
    dense_units: int
    dropout: float
    threshold: ThresholdRule
    calibrate: bool

    def __post_init__(self) -> None:
        _check_ranges(self, dense_units=(0, 65536))
        _check_share("dropout", self.dropout)
        if self.kind is Head.SOFTMAX and self.threshold is not ThresholdRule.HALF:
            raise ValueError(f"threshold must be half for a softmax head, got {self.threshold.value}")


@dataclass(frozen=True)
class AugmentSettings:
    """Random augmentation of training images; validation and test images are never changed.

    Attributes:
        mirror: True to flip images horizontally at random.
        rotation: Largest rotation in either direction, as a share of a full turn.
        shift: Largest translation along each axis, as a share of the side.
        zoom: Largest relative change of scale.
        brightness: Largest change of brightness, as a share of the range.
        contrast: Largest relative change of contrast.
        rand_augment: Strength 0..1 of two RandAugment operations per image (arXiv:1909.13719); 0 disables it.
        mixup: Parameter of the Beta distribution of the share of a second image (arXiv:1710.09412), 0..10; 0 disables
            mixup, 0.2 is common.
    """

    mirror: bool
    rotation: float
    shift: float
    zoom: float
    brightness: float
    contrast: float
    rand_augment: float
    mixup: float

    def __post_init__(self) -> None:
        for name in ("rotation", "shift", "zoom", "brightness", "contrast"):
            _check_share(name, getattr(self, name))
        _check_ranges(self, rand_augment=(0, 1), mixup=(0, 10))


@dataclass(frozen=True)
class OptimizerSettings:
    """Optimiser and learning rate.

    Attributes:
        name: Optimiser of Keras.
        learning_rate: Highest learning rate, above 0, up to 10.
        schedule: Schedule after warm-up: ``cosine`` decays to 0, ``constant`` stays.
        warmup: Share of all steps with a linear warm-up, in [0, 0.5].
    """

    name: OptimizerName
    learning_rate: float
    schedule: Schedule
    warmup: float

    def __post_init__(self) -> None:
        if not 0.0 < self.learning_rate <= 10.0:
            raise ValueError(f"learning_rate must be above 0 and at most 10, got {self.learning_rate}")
        _check_ranges(self, warmup=(0, 0.5))


@dataclass(frozen=True)
class LossSettings:
    """Cross-entropy loss, binary for a sigmoid head.

    Attributes:
        label_smoothing: Share of the target spread over all labels, in [0, 1).
        class_weights: Weighting: ``balanced`` gives every class the same weight, ``equal`` every image.
    """

    label_smoothing: float
    class_weights: ClassWeights

    def __post_init__(self) -> None:
        _check_share("label_smoothing", self.label_smoothing)


@dataclass(frozen=True)
class FitSettings:
    """Length of training; the best epoch of all phases by validation is kept.

    Attributes:
        epochs: Maximum number of epochs.
        batch_size: Images per step, 1 to 4096.
        steps_per_epoch: Steps of an epoch, after which validation is measured; 0 uses every image once.
        patience: Epochs without improvement after which a phase stops; 0 disables early stopping.
    """

    epochs: int
    batch_size: int
    steps_per_epoch: int
    patience: int

    def __post_init__(self) -> None:
        _check_ranges(self, epochs=(1, 10_000), batch_size=(1, 4096))
        _check_ranges(self, steps_per_epoch=(0, 1_000_000), patience=(0, 10_000))


@dataclass(frozen=True)
class FinetuneSettings:
    """Second phase that also trains the upper layers of a frozen backbone.

    Attributes:
        epochs: Maximum number of further epochs; 0 omits the phase.
        from_layer: First trained layer, as `keras.applications` numbers them (0 is the input). Batch normalisations
            keep their statistics and weights.
        optimizer: Optimiser of the phase.
        learning_rate: Highest learning rate; schedule and warm-up are those of ``[optimizer]``.
    """

    epochs: int
    from_layer: int
    optimizer: OptimizerName
    learning_rate: float

    def __post_init__(self) -> None:
        _check_ranges(self, epochs=(0, 10_000), from_layer=(0, 100_000))
        if not 0.0 < self.learning_rate <= 10.0:
            raise ValueError(f"learning_rate must be above 0 and at most 10, got {self.learning_rate}")


@dataclass(frozen=True)
class SplitSettings:
    """Shares of held-out images where the source gives no split; the rest is for training."""

    validation: float
    test: float

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0.0 or not self.validation + self.test < 1.0:
            found = f"{self.validation} and {self.test}"
            raise ValueError(f"validation and test must be above 0 and together below 1, got {found}")


def _check_ranges(settings: object, **ranges: tuple[float, float]) -> None:
    for name, (least, most) in ranges.items():
        value = getattr(settings, name)
        if not least <= value <= most:
            raise ValueError(f"{name} must be {least} to {most}, got {value}")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")


@dataclass(frozen=True)
class Recipe:
    """All settings of a training, apart from the images.

    Attributes:
        name: Short name of the recipe.
        summary: One line for ``edge-train recipes``.
        seed: Seed of split, initialisation, shuffling and augmentation, 0 to 2^32 - 1.
        input: Geometry of the model input.
        head: Layers after the features.
        augment: Augmentation of training images.
        optimizer: Optimiser and learning rate.
        loss: Loss that is minimised.
        fit: Length of training.
        split: Shares of held-out images.
        cnn: Network trained from scratch, or None.
        backbone: Network for transfer learning, or None.
        finetune: Second phase of a frozen backbone, or None.
    """

    name: str
    summary: str
    seed: int
    input: InputSettings
    head: HeadSettings
    augment: AugmentSettings
    optimizer: OptimizerSettings
    loss: LossSettings
    fit: FitSettings
    split: SplitSettings
    cnn: CnnSettings | None = None
    backbone: BackboneSettings | None = None
    finetune: FinetuneSettings | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or not self.summary.isprintable():
            raise ValueError(f"name and summary must be one printable line each, got {self.name!r} {self.summary!r}")
        _check_ranges(self, seed=(0, (1 << 32) - 1))
        if (self.cnn is None) == (self.backbone is None):
            raise ValueError("expected exactly one of the tables [cnn] and [backbone]")
        if self.cnn is not None and self.input.image_size >> len(self.cnn.filters) < 1:
            blocks = len(self.cnn.filters)
            raise ValueError(f"image_size {self.input.image_size} is too small for {blocks} blocks that halve it each")
        if self.finetunes and not (self.backbone and self.backbone.is_frozen):
            raise ValueError(
                "[finetune] needs a [backbone] that starts from trained weights; otherwise set finetune.epochs to 0"
            )

    @property
    def weights(self) -> str:
        """Initial weights: ``none``, ``imagenet`` or the path of a weight file."""
        return self.backbone.weights if self.backbone else WEIGHTS_NONE

    @property
    def finetunes(self) -> bool:
        """True if the recipe has a second phase."""
        return self.finetune is not None and self.finetune.epochs > 0


def recipe_names() -> tuple[str, ...]:
    """Names of the built-in recipes, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a built-in recipe by name, or a recipe file by a path that ends in ``.toml``.

    Raises:
        UsageError: No such recipe, or its TOML is not valid or not complete; the message names the field.
    """
    if name_or_path in recipe_names():
        return _parse(_FOLDER / f"{name_or_path}.toml")
    if not name_or_path.endswith(".toml"):
        names = ", ".join(recipe_names())
        raise UsageError(f"{name_or_path}: no such recipe; expected one of {names}, or a file that ends in .toml")
    return _parse(Path(name_or_path))


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, which `load_recipe` reads back."""
    import tomli_w

    return tomli_w.dumps(_tables(recipe))


def override(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a recipe with changed fields.

    Args:
        recipe: Recipe to start from.
        changes: Values by ``table.field`` (or ``seed`` and the like); None keeps a field.

    Raises:
        UsageError: Unknown field or invalid value; the message names it.
    """
    tables = _tables(recipe)
    for key, value in changes.items():
        if value is not None:
            table, _, field = key.rpartition(".")
            target = tables.setdefault(table, {}) if table else tables
            if not isinstance(target, dict):
                raise UsageError(f"recipe {recipe.name}.{key}: {table} is not a table")
            target[field] = value
    try:
        return from_mapping(Recipe, tables, f"recipe {recipe.name}", require_all=False)
    except ManifestError as error:
        raise UsageError(str(error)) from error


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse options such as ``optimizer.learning_rate=1e-4``; a value that is not TOML is text.

    Raises:
        UsageError: An option without ``=`` or without a field.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set: expected TABLE.FIELD=VALUE such as optimizer.learning_rate=1e-4, got {setting!r}")
        try:
            changes[key.strip()] = _loads(f"value = {text}".encode())["value"]
        except ValueError:
            changes[key.strip()] = text.strip()
    return changes


def _tables(recipe: Recipe) -> dict[str, Any]:
    # TOML has no null: a table that is None is omitted.
    return {key: value for key, value in to_mapping(recipe).items() if value is not None}


def _parse(path: Path) -> Recipe:
    try:
        with open_regular(path) as file:
            data = file.read(_MAX_RECIPE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: recipe cannot be read ({error.strerror})") from error
    if len(data) > _MAX_RECIPE_BYTES:
        raise UsageError(f"{path}: expected a recipe of at most {_MAX_RECIPE_BYTES} bytes, got a larger file")
    try:
        # Required fields carry no default, so only the optional tables may be absent.
        return from_mapping(Recipe, _loads(data), f"{path}: recipe", require_all=False)
    except ManifestError as error:
        raise UsageError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from error


def _loads(data: bytes) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(data.decode())
