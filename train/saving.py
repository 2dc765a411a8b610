"""Model files of a run directory: the trained model in the formats of Keras."""

from __future__ import annotations

import contextlib
import enum
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_runtime.errors import IntegrityError, UsageError

MODEL_FILE = "model.keras"


class Format(str, enum.Enum):
    """Format of a model saved besides ``model.keras``."""

    H5 = "h5"
    SAVED_MODEL = "saved_model"
    WEIGHTS = "weights"


_NAMES = {Format.H5: "model.h5", Format.SAVED_MODEL: "saved_model", Format.WEIGHTS: "model.weights.h5"}


def parse_formats(text: str) -> tuple[Format, ...]:
    """Parse a list such as ``h5,weights``.

    Raises:
        UsageError: The list names an unknown format.
    """
    try:
        return tuple(dict.fromkeys(Format(name.strip()) for name in text.split(",") if name.strip()))
    except ValueError as error:
        known = ", ".join(format_.value for format_ in Format)
        raise UsageError(f"--also: expected a list of {known}, got {text!r}") from error


def save_model(folder: Path, model: Any, also: Iterable[Format]) -> None:
    """Save a model as ``model.keras`` and in other formats.

    ``saved_model`` is a folder for TensorFlow Serving; its signature ``serving_default`` takes ``image``, float32
    [n, H, W, 3] RGB 0..255.
    """
    model.save(folder / MODEL_FILE)
    for format_ in also:
        path = folder / _NAMES[format_]
        if format_ is Format.WEIGHTS:
            model.save_weights(path)
        elif format_ is Format.H5:
            with _quiet():
                model.save(path)
        else:
            with _quiet():
                model.export(path, format="tf_saved_model", verbose=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of Keras and TensorFlow about old formats, and redirect standard output to standard error."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def load_model(path: Path) -> Any:
    """Load ``model.keras`` without running code from it.

    Raises:
        IntegrityError: Keras cannot load the file.
    """
    import keras

    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path}: Keras cannot load it ({reason})") from error
