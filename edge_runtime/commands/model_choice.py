"""Options that choose a model and engine, and opening the chosen model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli_support import foreign_options, note, parse_input_range, read_labels_file
from edge_runtime.contract import Crop, Variant
from edge_runtime.engines.base import EngineName
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.model.bundle import ModelFile


_ENGINES = tuple(engine.value for engine in EngineName)
_MOST_DEVICE_CHARACTERS = 64


@dataclass(frozen=True)
class ModelChoice:
    """What the command line says about the model; see `edge_runtime.model.bundle.ModelOptions` for the last three."""

    model: Path
    variant: str | None
    engine: str
    labels: Path | None
    crop: str | None
    input_range: str | None

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
        """Find the model once, and give a function that opens it, with ``threads`` threads inside one inference.

        Where the Edge TPU cannot be used and the bundle's model for the processor takes over, this is said once, and
        further openings take that one at once.
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


def _engine_name(_context: click.Context, _parameter: click.Parameter, text: str) -> str:
    name, _, device = text.partition(":")
    if name not in _ENGINES or (device and name != "edgetpu") or len(device) > _MOST_DEVICE_CHARACTERS:
        raise click.BadParameter(f"expected {', '.join(_ENGINES)} or edgetpu:DEVICE, got {text[:80]!r}")
    return text


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The argument MODEL and the options that `ModelChoice` holds, given to the command as ``choice``."""

    def command(
        model: Path,
        variant: str | None,
        engine: str,
        labels: Path | None,
        crop: str | None,
        input_range: str | None,
        **others: Any,
    ) -> Any:
        return function(ModelChoice(model, variant, engine, labels, crop, input_range), **others)

    command.__doc__, command.__name__ = function.__doc__, function.__name__
    command.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated = foreign_options(command)
    variants = click.Choice([variant.value for variant in Variant])
    decorated = click.option(
        "--engine",
        default="auto",
        show_default=True,
        metavar="|".join((*_ENGINES, "edgetpu:DEVICE")),
        callback=_engine_name,
        help="Runtime; DEVICE names one of several Edge TPUs, such as usb, pci or usb:1.",
    )(decorated)
    decorated = click.option("--variant", type=variants, help="Which export of a bundle [default: the fastest here].")(
        decorated
    )
    return click.argument("model", type=click.Path(path_type=Path), metavar="MODEL|BUNDLE")(decorated)
