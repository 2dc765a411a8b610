"""The options of ``edge-run`` that say which model to open and how, and the opening itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli_support import foreign_options, parse_input_range, read_labels_file
from edge_runtime.contract import Crop, Variant
from edge_runtime.errors import UsageError

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.modelfile import ModelFile

# The values of engines.opening.EngineName, whose import would bring numpy into every --help.
_ENGINES = ("auto", "litert", "tflite-runtime", "onnxruntime")


@dataclass(frozen=True)
class ModelChoice:
    """What the command line says about the model; see `edge_runtime.modelfile.Foreign` for the last three."""

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
        from edge_runtime.modelfile import Foreign, find_model

        foreign = Foreign(
            labels=read_labels_file(self.labels) if self.labels else None,
            crop=Crop(self.crop) if self.crop else None,
            input_range=parse_input_range(self.input_range) if self.input_range else None,
        )
        found = find_model(self.model, Variant(self.variant) if self.variant else None, foreign)
        if found.manifest and foreign != Foreign():
            raise UsageError(
                f"{self.model}: carries a manifest; leave out --labels, --crop and --input-range, which are for others"
            )
        return found

    def opener(self, threads: int) -> Callable[[], Classifier]:
        """Find the model once, and give a function that opens it, with ``threads`` threads inside one inference."""
        from edge_runtime.classifier import Classifier

        found = self.find()
        return lambda: Classifier(found, engine=self.engine, threads=threads)


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
    engines = click.Choice(_ENGINES)
    decorated = click.option("--engine", type=engines, default="auto", show_default=True, help="Runtime.")(decorated)
    decorated = click.option("--variant", type=variants, help="Which export of a bundle [default: the fastest here].")(
        decorated
    )
    return click.argument("model", type=click.Path(path_type=Path), metavar="MODEL|BUNDLE")(decorated)
