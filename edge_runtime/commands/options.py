"""Options of ``edge-run`` that choose the model, and those of ``edge-run classify``."""

# ruff: noqa: RUF009  an option is a dataclass field, made by a function
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.cli_support import Resource, choose_format, declare, note, with_options
from edge_runtime.contract import Crop, Variant, check_labels
from edge_runtime.engines import EngineName
from edge_runtime.errors import UsageError
from edge_runtime.strict import open_regular

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.model.bundle import ModelFile

STANDARD_INPUT = "-"
_ENGINES = tuple(engine.value for engine in EngineName)
_MOST_DEVICE_CHARACTERS = 64

_model = partial(declare, "Model")
_images = partial(declare, "Images")
_rows = partial(declare, "Rows")
_speed = partial(declare, "Speed")
_MAX_LABELS_BYTES = 16 << 20


def read_labels_file(path: Path) -> tuple[str, ...]:
    """Read labels, one per line.

    Raises:
        UsageError: The file cannot be read, or is not a list of at least two labels.
    """
    try:
        with open_regular(path) as file:
            text = file.read(_MAX_LABELS_BYTES).decode("utf-8")
        labels = tuple(line.strip() for line in text.splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: labels cannot be read ({getattr(error, 'strerror', None) or error})") from error
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


@dataclass(frozen=True, eq=False, repr=False)  # made at every start, compared never
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


@dataclass(frozen=True, eq=False, repr=False)
class ClassifyJob:
    """The argument PATH... and the options of ``edge-run classify``; the help text of a field is its documentation."""

    paths: tuple[str, ...]
    list_file: str | None = _images(
        "--list",
        type=click.Path(),
        metavar="FILE",
        help="Also classify the paths in this file, one per line; - is stdin.",
    )
    null: bool = _images("-0", "--null", is_flag=True, help="Paths of a list end with NUL bytes, as from find -print0.")
    watch: bool = _images(
        "--watch", is_flag=True, help="Keep running, and classify each new file in the folders once it is complete."
    )
    only_new: bool = _images("--only-new", is_flag=True, help="With --watch: skip files that exist already.")
    top_k: int = _rows(
        "--top-k", type=click.IntRange(min=1), default=3, show_default=True, metavar="K", help="Predictions per image."
    )
    format_name: str | None = _rows(
        "--format",
        type=click.Choice(["table", "jsonl", "csv"]),
        help="Format of the rows [default: by the suffix of --output, else table].",
    )
    output: Path | None = _rows(
        "--output", type=click.Path(path_type=Path), help="Write to this file, completely or not at all."
    )
    overwrite: bool = _rows("--overwrite", is_flag=True, help="Replace an existing --output file.")
    skip_done: bool = _rows(
        "--skip-done", is_flag=True, help="Append to the --output file, row by row, only images without a row."
    )
    retry_failed: bool = _rows(
        "--retry-failed", is_flag=True, help="With --skip-done: also images whose row is an error."
    )
    workers: int = _speed(
        "--workers",
        type=click.IntRange(0, 256),
        default=0,
        metavar="N",
        help="Images in parallel [default: one per core].",
    )
    threads: int = _speed(
        "--threads",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        metavar="N",
        help="Threads inside one inference; for a folder, more workers are faster.",
    )

    @property
    def format(self) -> str:
        """Format of the rows: ``table``, ``jsonl`` or ``csv``."""
        return choose_format(self.format_name, self.output, "table")

    @property
    def appends(self) -> bool:
        """True if rows reach the file one by one: when resuming, and when watching, which has no end."""
        return self.output is not None and (self.skip_done or self.watch)

    def check(self) -> None:
        """Check that the options go together.

        Raises:
            UsageError: They do not.
        """
        self._check_inputs()
        if self.skip_done and self.output is None:
            raise UsageError("--skip-done: goes with --output FILE, whose rows tell which images are done")
        if self.skip_done and self.overwrite:
            raise UsageError("--skip-done: continues the file that --overwrite would replace; give one of the two")
        if self.retry_failed and not self.skip_done:
            raise UsageError("--retry-failed: goes with --skip-done")
        if self.appends and self.format == "table":
            option = "--skip-done" if self.skip_done else "--watch"
            raise UsageError(f"{option}: expected an --output of --format jsonl or csv, got a table")
        if self.watch and self.overwrite:
            raise UsageError("--watch: rows are appended one by one, so there is no --overwrite; choose another name")

    def _check_inputs(self) -> None:
        is_piped = STANDARD_INPUT in self.paths
        if not self.paths and self.list_file is None:
            raise UsageError("expected PATH... or --list FILE with the images to classify, got neither")
        if self.null and self.list_file is None and not is_piped:
            raise UsageError("--null: goes with --list FILE or the path -, whose paths end with NUL bytes")
        if is_piped and self.list_file is not None:
            raise UsageError("--list: the path - is a list on standard input already; give one of the two")
        if self.watch and (self.list_file is not None or is_piped):
            raise UsageError("--watch: expected folders, got a list")
        if self.only_new and not self.watch:
            raise UsageError("--only-new: goes with --watch")


def classify_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument PATH... and the options, and pass them as ``job``."""
    decorated = with_options(ClassifyJob, "job")(function)
    return click.argument("paths", nargs=-1, type=click.Path(), metavar="PATH...")(decorated)
