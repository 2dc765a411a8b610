"""Options of a conversion: contract of a foreign model, calibration, rounding and repair.

Light and below all other modules: the command line, the source readers and all child processes import it.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field, fields
from pathlib import Path

from edge_runtime.contract import Crop, Variant, check_labels, normalize_label
from edge_runtime.errors import CompatibilityError, UsageError, shorten
from edge_runtime.strict import open_regular


class CalibrationMethod(str, enum.Enum):
    """Methods that derive the range of an activation from its values over the calibration images."""

    MIN_MAX = "min-max"  # smallest and largest value of all images
    MOVING_AVERAGE = "moving-average"  # exponential average of each image's smallest and largest value
    PERCENTILE = "percentile"  # rarest values cut off at both ends
    MSE = "mse"  # range with the least mean squared error of rounding and clipping


class Rounding(str, enum.Enum):
    """Methods that round weights to integers."""

    NEAREST = "nearest"  # each weight alone
    CALIBRATED = "calibrated"  # least change of a layer's output over the calibration images; bias corrected


class Repair(str, enum.Enum):
    """Treatments of an integer artifact that fails the accuracy gate."""

    OFF = "off"
    AUTO = "auto"  # keep the fewest harmful operators in float32 until it passes


class Loader(str, enum.Enum):
    """Libraries that load a model."""

    KERAS3 = "keras 3"
    TF_KERAS = "tf-keras"
    SAVED_MODEL = "saved model"


@dataclass(frozen=True)
class ModelFacts:
    """Facts that a model file states; others are known once it is loaded.

    Attributes:
        shown: Format and version in words, for the report.
        loader: Library that loads the model.
        input_shape: [batch, height, width, channels] with None for an open size, or None if not stated.
        output_width: Number of output values, or None if not stated.
        own_scaling: Factor by which the model's first layer multiplies the pixels, or None without such a layer.
    """

    shown: str
    loader: Loader
    input_shape: tuple[int | None, ...] | None
    output_width: int | None
    own_scaling: float | None


MAX_LABELS_BYTES = 4 << 20
UNSAFE_MEANS = "which lets code of the file run with your rights, only if you trust its author"
"""Continuation of "pass --unsafe," in a message."""

_MAX_NAME_CHARACTERS = 64
_NUMBERED = re.compile(r"([0-9]{1,6})[ \t]+(\S.*)")


class InputRange(str, enum.Enum):
    """Pixel ranges of training: the values of 0 and 255 before the model's first layer."""

    UNIT = "0,1"
    SIGNED = "-1,1"
    BYTE = "0,255"


class ModelColor(str, enum.Enum):
    """Channel orders of training; the exported files always take RGB."""

    RGB = "rgb"
    BGR = "bgr"
    GRAY = "gray"


class ModelOutput(str, enum.Enum):
    """Kinds of values that a model's last layer gives."""

    PROBABILITIES = "probabilities"
    LOGITS = "logits"


@dataclass(frozen=True)
class ForeignOptions:
    """Options of ``edge-convert run`` for a model from elsewhere; None means not given.

    Attributes:
        labels: Text file, one label per line, in the order of the outputs.
        input_range: Pixel range that the model was trained on.
        crop: Crop policy for images of another shape in training.
        crop_fraction: Share of the centred region that is kept, 0..1.
        color: Channel order that the model was trained on; None means RGB.
        image_size: Side of the input in pixels, for a model with an open size.
        output: Kind of values that the last layer gives.
        name: Model name; None means the file's.
        unsafe: True to run code inside the file.
    """

    labels: Path | None = None
    input_range: InputRange | None = None
    crop: Crop | None = None
    crop_fraction: float = 1.0
    color: ModelColor | None = None
    image_size: int | None = None
    output: ModelOutput = ModelOutput.PROBABILITIES
    name: str | None = None
    unsafe: bool = False


@dataclass(frozen=True)
class QuantizeSettings:
    """Settings of calibration, rounding and repair.

    Attributes:
        method: Method that derives activation ranges from the calibration images.
        rounding: Method that rounds weights to integers.
        repair: Treatment of an int8 model that fails the accuracy gate.
        repair_seconds: Time limit for the repair of one artifact, in seconds.
        float_first: Number of operators at the start of int8 models that stay in float32.
        old_runtime: True to avoid a scale per output of a dense layer in dynamic range.
        points: True to measure int8 with fewer calibration images too.
    """

    method: CalibrationMethod = CalibrationMethod.MIN_MAX
    rounding: Rounding = Rounding.CALIBRATED
    repair: Repair = Repair.AUTO
    repair_seconds: float = 60.0
    float_first: int = 0
    old_runtime: bool = False
    points: bool = True


# All variants that need no other program.
DEFAULT_VARIANTS = tuple(variant for variant in Variant if variant is not Variant.EDGETPU)


@dataclass(frozen=True)
class Options:
    """Options of one conversion.

    Attributes:
        variants: Variants to export, in order.
        foreign: Contract of a model without a manifest.
        calibration: SRC for calibration and checks instead of the run's own images, or None.
        calibration_images: Number of images for calibration, at least 1.
        seed: Seed for choosing calibration images; None takes the run's.
        max_drop_points: Allowed loss of accuracy against Keras, percentage points.
        settings: Settings of calibration, rounding and repair.
        runtime: Runtime that must open every TFLite file, such as ``tflite-runtime==2.14``, or None.
        edgetpu_share: Minimum share of operators that map to the Edge TPU, 0..1.
        overwrite: True to replace an existing bundle.
        add: True to keep what an existing bundle of the same model holds.
    """

    variants: tuple[Variant, ...] = DEFAULT_VARIANTS
    foreign: ForeignOptions = field(default_factory=ForeignOptions)
    calibration: str | None = None
    calibration_images: int = 500
    seed: int | None = None
    max_drop_points: float = 1.0
    settings: QuantizeSettings = field(default_factory=QuantizeSettings)
    runtime: str | None = None
    edgetpu_share: float = 0.9
    overwrite: bool = False
    add: bool = False


def refuse_foreign_options(options: ForeignOptions, run: Path) -> None:
    """Raise UsageError for options that a run directory's manifest already answers."""
    given = [option.name for option in fields(options) if getattr(options, option.name) != option.default]
    wrong = [f"--{name.replace('_', '-')}" for name in given if name != "unsafe"]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: only for a model from elsewhere; the manifest of the run {run} sets it")


def require_options(options: ForeignOptions, path: Path, *, has_calibration: bool, own_scaling: float | None) -> None:
    """Raise one UsageError that names all missing options of a model from elsewhere."""
    needed = {
        "--labels FILE (one label per line, in the order of the outputs)": options.labels is not None,
        "--input-range 0,1 or -1,1 or 0,255 (pixel range in training)": options.input_range is not None,
        "--crop center, stretch or letterbox (crop policy in training)": options.crop is not None,
        "--calibration SRC (labelled images for calibration and checks)": has_calibration,
    }
    missing = [name for name, is_given in needed.items() if not is_given]
    if missing:
        hint = ""
        if own_scaling is not None and options.input_range is None:
            hint = f"; its first layer scales by {own_scaling:.4g}: about 1/255 or 1/127.5 goes with 0,255"
        raise UsageError(f"{path}: a model without a manifest; add {', '.join(missing)}{hint}")
    if options.crop is not Crop.CENTER and options.crop_fraction != 1.0:
        raise UsageError(
            f"--crop-fraction: goes with --crop center only, got --crop {options.crop and options.crop.value}"
        )


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, one per line.

    If every line begins with its own index, as Teachable Machine writes it (``0 cat``, ``1 dog``), the indices are
    removed.

    Raises:
        UsageError: The file cannot be read, or is not a list of at least two different labels.
    """
    try:
        with open_regular(path) as file:
            data = file.read(MAX_LABELS_BYTES + 1)
        if len(data) > MAX_LABELS_BYTES:
            raise UsageError(f"--labels: {path}: expected at most {MAX_LABELS_BYTES >> 20} MiB, got more")
        lines = data.decode("utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise UsageError(f"--labels: {path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--labels: {path}: expected a text file in UTF-8, got other bytes") from error
    numbered = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    names = [match[2] for index, match in enumerate(numbered) if match and int(match[1]) == index]
    labels = tuple(normalize_label(name.strip()) for name in (names if len(names) == len(lines) else lines))
    try:
        check_labels(labels)
        repeated = next((label for index, label in enumerate(labels) if label in labels[:index]), None)
        if repeated is not None:
            raise ValueError(f"the label {shorten(repr(repeated))} occurs twice")
    except ValueError as error:
        raise UsageError(f"--labels: {path}: {error}") from error
    return labels


def check_label_count(labels: tuple[str, ...], width: int | None, path: Path) -> None:
    """Raise CompatibilityError unless the labels match the number of outputs; one output is a sigmoid of two labels."""
    if width is None or len(labels) == width or (width == 1 and len(labels) == 2):
        return
    expected = "2 labels for its one output" if width == 1 else f"{width} labels, one per output"
    raise CompatibilityError(f"--labels: {path} expects {expected}, got {len(labels)}")


def model_name(path: Path) -> str:
    """Derive a model name from a file name; characters that a name may not contain become ``-``."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name if path.is_dir() else path.stem)
    return name.lstrip("._-")[:_MAX_NAME_CHARACTERS] or "model"
