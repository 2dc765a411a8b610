"""Options that choose the model and the runtime, and opening the chosen model."""

# ruff: noqa: RUF009  an option is a dataclass field, made by a function
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli_support import Resource, declare, note, with_options
from edge_runtime.contract import Crop, Variant
from edge_runtime.engines.base import EngineName
from edge_runtime.errors import UsageError
from edge_runtime.labels import check_labels

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.model.bundle import ModelFile

_ENGINES = tuple(engine.value for engine in EngineName)
_MOST_DEVICE_CHARACTERS = 64

_model = partial(declare, "Model")


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Read labels, one per line.

    Raises:
        UsageError: The file cannot be read, or is not a list of at least two labels.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: labels cannot be read ({error})") from error
    try:
        check_labels(labels)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return labels


def parse_input_range(text: str) -> tuple[float, float]:
    """Parse ``LOW,HIGH``, the real values that pixels 0 and 255 become."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"--input-range: expected LOW,HIGH such as 0,1 or -1,1 or 0,255, got {text!r}") from error
    if not low < high:
        raise UsageError(f"--input-range: expected LOW below HIGH, got {text!r}")
    return low, high


def _engine_name(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    name, _, device = text.partition(":")
    if name not in _ENGINES or (device and name != "edgetpu") or len(device) > _MOST_DEVICE_CHARACTERS:
        raise click.BadParameter(f"expected {', '.join(_ENGINES)} or edgetpu:DEVICE, got {text[:80]!r}")
    return text


@dataclass(frozen=True)
class ModelChoice:
    """The argument MODEL|BUNDLE and the options about the model; the help text of a field is its documentation.

    The last three complete the contract of a model without a manifest; see `edge_runtime.model.bundle.ModelOptions`.
    """

    model: Path
    variant: str | None = _model(
        "--variant",
        type=click.Choice([variant.value for variant in Variant]),
        help="Exported variant of a bundle [default: the fastest on this machine].",
    )
    engine: str = _model(
        "--engine",
        default="auto",
        show_default=True,
        metavar="|".join((*_ENGINES, "edgetpu:DEVICE")),
        callback=_engine_name,
        help="Runtime; DEVICE names one of several Edge TPUs, such as usb, pci or usb:1.",
    )
    labels: Path | None = _model(
        "--labels",
        type=click.Path(path_type=Path),
        resource=Resource.READ_PATH,
        help="File of labels, one per line, for a model without a manifest.",
    )
    crop: str | None = _model(
        "--crop",
        type=click.Choice([crop.value for crop in Crop]),
        help="How images are cropped, for a model without a manifest.",
    )
    input_range: str | None = _model(
        "--input-range",
        metavar="LOW,HIGH",
        help="Values that pixels 0 and 255 become, for a float or int8 model without a manifest.",
    )

    def find(self) -> ModelFile:
        """Find and check the model file.

        Raises:
            UsageError: Options that do not fit this model.
            ModelError: The model cannot be used.
        """
        from edge_runtime.model.bundle import ModelOptions, find_model

        options = ModelOptions(
            labels=read_labels_file(self.labels) if self.labels else None,
            crop=Crop(self.crop) if self.crop else None,
            input_range=parse_input_range(self.input_range) if self.input_range else None,
        )
        variant = Variant(self.variant) if self.variant else None
        found = find_model(self.model, variant, options, engine=self.engine)
        if found.manifest and options != ModelOptions():
            raise UsageError(
                f"{self.model}: carries a manifest; leave out --labels, --crop and --input-range, which are for others"
            )
        return found

    def opener(self, threads: int) -> Callable[[], Classifier]:
        """Find the model once, and return a function that opens it.

        Where the Edge TPU cannot be used and the bundle's CPU fallback is opened instead, one note says so, and
        further openings take the fallback at once.

        Args:
            threads: Threads inside one inference.
        """
        from edge_runtime.classifier import Classifier

        found = self.find()

        def open_classifier() -> Classifier:
            nonlocal found
            classifier = Classifier(found, engine=self.engine, threads=threads)
            if classifier.note and classifier.model is not found:
                found = classifier.model
                note(classifier.note)
            return classifier

        return open_classifier


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument MODEL|BUNDLE and the model's options, and pass them as ``choice``."""
    decorated = with_options(ModelChoice, "choice")(function)
    return click.argument("model", type=click.Path(path_type=Path), metavar="MODEL|BUNDLE")(decorated)
