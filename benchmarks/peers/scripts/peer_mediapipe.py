"""MediaPipe's ``ImageClassifier`` as its guide uses it: it reads the file, scales and ranks by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import mediapipe as mp  # type: ignore[import-not-found]  # it lives in an environment of its own
from mediapipe.tasks.python import BaseOptions  # type: ignore[import-not-found]
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions  # type: ignore[import-not-found]


def open_peer(request: dict[str, Any]) -> tuple[str, Callable[[str], tuple[str, None]], dict[str, Any]]:
    """Open the model file; see `loop`."""
    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=request["model"]), max_results=3)
    opened = contextlib.ExitStack()
    classifier = opened.enter_context(ImageClassifier.create_from_options(options))

    def classify(path: str) -> tuple[str, None]:
        result = classifier.classify(mp.Image.create_from_file(path))
        return str(result.classifications[0].categories[0].category_name), None

    return f"mediapipe {mp.__version__}", classify, {}
