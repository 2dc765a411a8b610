"""``edge-convert run``: its options, and what it says at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.quantize.methods import CalibrationMethod, Repair, Rounding
from convert.source.foreign import ForeignOptions, InputRange, ModelColor, ModelOutput
from edge_runtime.cli_support import note, require_extra
from edge_runtime.contract import Crop, Variant
from edge_runtime.errors import GateError

if TYPE_CHECKING:
    # It stands on numpy, which --help must not wait for.
    from convert.quantize.job import Settings

_PACKAGES = (
    "tensorflow", "keras", "tf_keras", "h5py", "tf2onnx", "onnx", "onnxruntime", "ai_edge_quantizer", "flatbuffers",
    "matplotlib", "jinja2",
)  # fmt: skip


def _values(choices: type[Any]) -> click.Choice[str]:
    return click.Choice([choice.value for choice in choices])


def _foreign_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What completes the contract of a model from elsewhere."""
    options = (
        click.option(
            "--labels",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Labels, one a line, in the order of the outputs.",
        ),
        click.option(
            "--input-range", type=_values(InputRange), help="What the pixels 0 to 255 were scaled to in training."
        ),
        click.option("--crop", type=_values(Crop), help="How pictures were brought to the model's shape."),
        click.option(
            "--crop-fraction",
            type=click.FloatRange(0, 1, min_open=True),
            default=1.0,
            metavar="F",
            help="Share of the centred region that is kept.",
        ),
        click.option("--color", type=_values(ModelColor), help="Order of the channels.  [default: rgb]"),
        click.option("--image-size", type=click.IntRange(1), metavar="S", help="Side in pixels, where it is open."),
        click.option(
            "--output",
            type=_values(ModelOutput),
            default=ModelOutput.PROBABILITIES.value,
            show_default=True,
            help="What the model ends with; logits get a softmax or sigmoid.",
        ),
        click.option("--name", help="Model name.  [default: the file's]"),
        click.option("--unsafe", is_flag=True, help="Load models that hold code, such as Lambda layers, and run it."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _integer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How integers are made."""
    options = (
        click.option(
            "--calibration-images",
            type=click.IntRange(1),
            default=500,
            show_default=True,
            metavar="N",
            help="Pictures to calibrate with, the classes taking turns.",
        ),
        click.option(
            "--calibration-method",
            type=_values(CalibrationMethod),
            default=CalibrationMethod.MIN_MAX.value,
            show_default=True,
            help="How the range of an activation follows from its values.",
        ),
        click.option("--seed", type=int, metavar="N", help="Of the choice of pictures.  [default: the run's, or 0]"),
        click.option(
            "--rounding",
            type=_values(Rounding),
            default=Rounding.CALIBRATED.value,
            show_default=True,
            help="How weights become integers.",
        ),
        click.option(
            "--repair",
            type=_values(Repair),
            default=Repair.AUTO.value,
            show_default=True,
            help="auto: of an integer variant that fails its check, keep the fewest operators in float32 that mend it.",
        ),
        click.option(
            "--repair-seconds",
            type=click.FloatRange(1),
            default=60.0,
            show_default=True,
            metavar="S",
            help="Time for the repair of one variant.",
        ),
        click.option(
            "--float-first",
            type=click.IntRange(0),
            default=0,
            metavar="N",
            help="Keep the first N operators of int8 in float32, which is faster on some x86 processors.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--variant",
    "variants",
    multiple=True,
    type=_values(Variant),
    help="What to export; may be given more than once.  [default: all but edgetpu]",
)
@click.option("--out", type=click.Path(path_type=Path), help="The bundle.  [default: bundles/<model name>]")
@click.option(
    "--calibration",
    metavar="SRC",
    help="Labelled pictures for calibration and checks, instead of the run's own: a folder of class folders, a .zip or "
    "URL of one, a .csv that lists pictures, or smileys.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="PP",
    help="Allowed loss of accuracy against Keras, in percentage points.",
)
@click.option("--runtime", metavar="NAME==VERSION", help="TFLite files must open in it, such as tflite-runtime==2.14.")
@click.option(
    "--edgetpu-share",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    metavar="F",
    help="Least share of operators that must map to the Edge TPU.",
)
@_integer_options
@_foreign_options
@click.option("--overwrite", is_flag=True, help="Replace an existing bundle.")
def run(
    model: Path,
    variants: tuple[str, ...],
    out: Path | None,
    calibration: str | None,
    calibration_images: int,
    seed: int | None,
    max_drop: float,
    runtime: str | None,
    edgetpu_share: float,
    overwrite: bool,
    **others: Any,
) -> None:
    """Convert MODEL into a bundle: a run directory, a .keras or .h5 file, or a SavedModel folder.

    A model from elsewhere needs --labels, --input-range, --crop and --calibration.

    Exits with 8 when an export lost more than --max-drop; it is then left out of the bundle.
    """
    require_extra("edge-convert", "convert", *_PACKAGES)
    from convert.conversion import DEFAULT_VARIANTS, Options, convert
    from convert.lint.versions import has_builtin, parse_target

    # Dynamic range with a scale per output of a dense layer, which came with TensorFlow 2.17.
    old_runtime = runtime is not None and not has_builtin("FULLY_CONNECTED", 12, parse_target(runtime))
    options = Options(
        variants=tuple(dict.fromkeys(Variant(name) for name in variants)) or DEFAULT_VARIANTS,
        foreign=_foreign(others),
        calibration=calibration,
        calibration_images=calibration_images,
        seed=seed,
        max_drop_points=max_drop,
        settings=_settings(others, old_runtime=old_runtime),
        runtime=runtime,
        edgetpu_share=edgetpu_share,
        overwrite=overwrite,
    )
    bundle, record = convert(model, out, options, report=note)
    _conclude(bundle, record)


def _conclude(bundle: Path, record: Any) -> None:
    """Table, verdict and where things lie; raise GateError if something is not in the bundle."""
    from convert.bundle import REPORT_FILE
    from convert.report.recommend import recommendation
    from convert.report.table import text_table

    click.echo(text_table(record))
    if record.passed:
        click.echo(f"\n{recommendation(record)}")
        click.echo(f"\nbundle: {bundle}\nreport: {bundle / REPORT_FILE}\nnext:   edge-run classify {bundle} PHOTO")
    failed = [variant.artifact.variant.value for variant in record.failed]
    left_out = [entry.variant for entry in record.left_out]
    if failed or left_out:
        parts = [f"{', '.join(failed)}: lost more than allowed"] if failed else []
        parts += [f"{', '.join(left_out)}: could not be made or run"] if left_out else []
        raise GateError(f"{'; '.join(parts)}; not in the bundle, see the table above")


def _foreign(others: dict[str, Any]) -> ForeignOptions:
    def choice(name: str, kind: type[Any]) -> Any:
        return kind(others[name]) if others[name] is not None else None

    return ForeignOptions(
        labels=others["labels"],
        input_range=choice("input_range", InputRange),
        crop=choice("crop", Crop),
        crop_fraction=others["crop_fraction"],
        color=choice("color", ModelColor),
        image_size=others["image_size"],
        output=ModelOutput(others["output"]),
        name=others["name"],
        unsafe=others["unsafe"],
    )


def _settings(others: dict[str, Any], *, old_runtime: bool) -> Settings:
    from convert.quantize.job import Settings

    return Settings(
        method=CalibrationMethod(others["calibration_method"]),
        rounding=Rounding(others["rounding"]),
        repair=Repair(others["repair"]),
        repair_seconds=others["repair_seconds"],
        float_first=others["float_first"],
        old_runtime=old_runtime,
    )
