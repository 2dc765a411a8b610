"""Tables of a recipe as frozen dataclasses with checked ranges, and the values that their text fields may have."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from edge_runtime.contract import Crop, Head, InputSpec

MOBILENETV2_ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)


class Pool(str, enum.Enum):
    """How the last feature map becomes one vector."""

    AVERAGE = "average"
    MAX = "max"
    FLATTEN = "flatten"


class BackboneName(str, enum.Enum):
    """Networks of `keras.applications` that deploy well."""

    MOBILENETV2 = "mobilenetv2"
    MOBILENETV3_SMALL = "mobilenetv3-small"
    MOBILENETV3_LARGE = "mobilenetv3-large"
    EFFICIENTNET_B0 = "efficientnet-b0"
    EFFICIENTNETV2_B0 = "efficientnetv2-b0"

    @property
    def alphas(self) -> tuple[float, ...]:
        """Width multipliers for which ImageNet weights are published."""
        if self is BackboneName.MOBILENETV2:
            return MOBILENETV2_ALPHAS
        return (0.75, 1.0) if self in (BackboneName.MOBILENETV3_SMALL, BackboneName.MOBILENETV3_LARGE) else (1.0,)


class OptimizerName(str, enum.Enum):
    """Optimisers of Keras."""

    ADAM = "adam"
    ADAMW = "adamw"
    RMSPROP = "rmsprop"
    SGD = "sgd"


class Schedule(str, enum.Enum):
    """How the learning rate goes on after warm-up."""

    CONSTANT = "constant"
    COSINE = "cosine"


class ClassWeights(str, enum.Enum):
    """How much an image counts in the loss."""

    EQUAL = "equal"
    BALANCED = "balanced"


class ThresholdRule(str, enum.Enum):
    """Where a sigmoid head's answer turns from the first label to the second."""

    HALF = "half"
    F1 = "f1"


MIN_IMAGE_SIZE_PX = 32
MAX_IMAGE_SIZE_PX = 1024
WEIGHTS_NONE = "none"
WEIGHTS_IMAGENET = "imagenet"


@dataclass(frozen=True)
class InputSettings:
    """Geometry of the model's square input; see `edge_runtime.contract.InputSpec`."""

    image_size: int
    crop: Crop
    crop_fraction: float

    def __post_init__(self) -> None:
        _check_range("image_size", self.image_size, MIN_IMAGE_SIZE_PX, MAX_IMAGE_SIZE_PX)
        self.spec()

    def spec(self) -> InputSpec:
        """The same as the contract says it."""
        return InputSpec(self.image_size, self.image_size, self.crop, self.crop_fraction)


@dataclass(frozen=True)
class CnnSettings:
    """A network from scratch: blocks of 3x3 convolutions with ReLU, each of which halves the image.

    Attributes:
        filters: Output channels of each block.
        first_kernel: Side of the first convolution, odd, in pixels.
        first_stride: 2 halves the image in the first convolution, the most expensive one, instead of pooling; or 1.
        convolutions: Convolutions in each block before its 2x2 max pooling.
        batch_norm: Whether each convolution is followed by batch normalisation.
        block_dropout: Share of values dropped after each block, in [0, 1).
        pool: How the last feature map becomes a vector.
        pixels_low: What pixel 0 becomes inside the graph.
        pixels_high: What pixel 255 becomes.
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
        _check_range("first_stride", self.first_stride, 1, 2)
        _check_range("convolutions", self.convolutions, 1, 8)
        _check_share("block_dropout", self.block_dropout)
        if not -1000.0 <= self.pixels_low < self.pixels_high <= 1000.0:
            found = f"{self.pixels_low} and {self.pixels_high}"
            raise ValueError(f"pixels_low must be below pixels_high, both from -1000 to 1000, got {found}")


@dataclass(frozen=True)
class BackboneSettings:
    """A network of `keras.applications` without its top, frozen at first unless it starts from random weights.

    Attributes:
        name: Which.
        alpha: Width multiplier; the weight file of a MobileNetV2 overrules it.
        weights: ``imagenet``, ``none``, or the path of a no-top ``.h5`` file.
        views: How many versions of each training image pass through the frozen backbone: the first is the image
            itself, the others are augmented. Their features are computed once and kept.
    """

    name: BackboneName
    alpha: float
    weights: str
    views: int

    def __post_init__(self) -> None:
        if self.alpha not in self.name.alphas:
            choices = ", ".join(map(str, self.name.alphas))
            raise ValueError(f"alpha of {self.name.value} must be one of {choices}, got {self.alpha}")
        _check_range("views", self.views, 1, 64)
        if not self.weights:
            raise ValueError("weights must be imagenet, none or the path of a .h5 file, got nothing")

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone keeps the weights it starts from, until fine-tuning."""
        return self.weights != WEIGHTS_NONE


@dataclass(frozen=True)
class HeadSettings:
    """What comes after the features.

    Attributes:
        kind: ``softmax`` over all labels, or for two labels one ``sigmoid`` neuron.
        dense_units: Width of a hidden layer; 0 leaves it out.
        dropout: Share of values dropped before each dense layer, in [0, 1).
        threshold: For a sigmoid head: ``half`` is 0.5, ``f1`` the threshold with the best F1 of the second label on the
            validation images. A softmax head takes ``half``.
        calibrate: Whether a temperature is fitted on validation and folded into the last layer, so that a score of 0.8
            is right about 8 times in 10. The answers stay the same.
    """

    kind: Head
    dense_units: int
    dropout: float
    threshold: ThresholdRule
    calibrate: bool

    def __post_init__(self) -> None:
        _check_range("dense_units", self.dense_units, 0, 65536)
        _check_share("dropout", self.dropout)
        if self.kind is Head.SOFTMAX and self.threshold is not ThresholdRule.HALF:
            raise ValueError(f"threshold must be half for a softmax head, got {self.threshold.value}")


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes to training images; validation and test images are never changed.

    Attributes:
        mirror: Whether left and right may change places.
        rotation: Largest turn either way, as a share of a full turn.
        shift: Largest move along each axis, as a share of the side.
        zoom: Largest change of scale either way, as a share.
        brightness: Largest change of brightness either way, as a share of the range.
        contrast: Largest change of contrast either way, as a share.
        rand_augment: Strength 0..1 of two random operations of RandAugment (arXiv:1909.13719) an image; 0 is none.
        mixup: Shape of the Beta distribution from which the share of a second image is drawn (arXiv:1710.09412);
            0 is none, 0.2 a usual value.
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
        if not 0.0 <= self.rand_augment <= 1.0:
            raise ValueError(f"rand_augment must be 0 to 1, got {self.rand_augment}")
        if not 0.0 <= self.mixup <= 10.0:
            raise ValueError(f"mixup must be 0 to 10, got {self.mixup}")


@dataclass(frozen=True)
class OptimizerSettings:
    """The optimiser and its learning rate.

    Attributes:
        name: Which.
        learning_rate: The highest.
        schedule: ``cosine`` falls to 0 along a cosine, ``constant`` stays.
        warmup: Share of all steps over which the learning rate first rises in a line, in [0, 0.5].
    """

    name: OptimizerName
    learning_rate: float
    schedule: Schedule
    warmup: float

    def __post_init__(self) -> None:
        if not 0.0 < self.learning_rate <= 10.0:
            raise ValueError(f"learning_rate must be above 0 and at most 10, got {self.learning_rate}")
        if not 0.0 <= self.warmup <= 0.5:
            raise ValueError(f"warmup must be 0 to 0.5, got {self.warmup}")


@dataclass(frozen=True)
class LossSettings:
    """Cross-entropy, binary for a sigmoid head.

    Attributes:
        label_smoothing: Share of the target that is spread over all labels, in [0, 1).
        class_weights: ``balanced`` makes every class count as much as any other, ``equal`` every image.
    """

    label_smoothing: float
    class_weights: ClassWeights

    def __post_init__(self) -> None:
        _check_share("label_smoothing", self.label_smoothing)


@dataclass(frozen=True)
class FitSettings:
    """How long training goes on; the best epoch of all phases by validation is kept.

    Attributes:
        epochs: At most so many epochs.
        batch_size: Images per step.
        steps_per_epoch: Steps after which an epoch ends and validation is looked at; 0 takes every image once.
        patience: Epochs without a better one after which a phase stops; 0 never stops early.
    """

    epochs: int
    batch_size: int
    steps_per_epoch: int
    patience: int

    def __post_init__(self) -> None:
        _check_range("epochs", self.epochs, 1, 10_000)
        _check_range("batch_size", self.batch_size, 1, 4096)
        _check_range("steps_per_epoch", self.steps_per_epoch, 0, 1_000_000)
        _check_range("patience", self.patience, 0, 10_000)


@dataclass(frozen=True)
class FinetuneSettings:
    """A second phase, in which the upper layers of a frozen backbone are trained too.

    Attributes:
        epochs: At most so many more epochs; 0 leaves the phase out.
        from_layer: The first layer that is trained, as `keras.applications` numbers them (0 is the input). Batch
            normalisations keep their statistics and weights.
        optimizer: Its name.
        learning_rate: The highest; the schedule and warm-up are those of ``[optimizer]``.
    """

    epochs: int
    from_layer: int
    optimizer: OptimizerName
    learning_rate: float

    def __post_init__(self) -> None:
        _check_range("epochs", self.epochs, 0, 10_000)
        _check_range("from_layer", self.from_layer, 0, 100_000)
        if not 0.0 < self.learning_rate <= 10.0:
            raise ValueError(f"learning_rate must be above 0 and at most 10, got {self.learning_rate}")


@dataclass(frozen=True)
class SplitSettings:
    """Shares of the images that are held out where the source does not say; the rest is for training."""

    validation: float
    test: float

    def __post_init__(self) -> None:
        if min(self.validation, self.test) <= 0.0 or not self.validation + self.test < 1.0:
            found = f"{self.validation} and {self.test}"
            raise ValueError(f"validation and test must be above 0 and together below 1, got {found}")


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, got {value}")


def _check_share(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
