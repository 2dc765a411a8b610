"""How many images of each label a folder holds.

    pip install edgekit
    python count_labels.py bundles/pets photos

A Classifier is for one thread at a time, so each thread opens one of its own, and one thread a core is the fastest.
For more than a count, ``edge-run classify`` does the same with order, errors and output files.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edge_runtime import Classifier, EdgeKitError, Failed, ImageError, core_count, find_images

UNREADABLE = "(unreadable)"


class Labeller:
    """Labels images from any number of threads."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._own = threading.local()
        self._opened: list[Classifier] = []

    def label(self, image: Path | Failed) -> str:
        """The answer for one image."""
        if isinstance(image, Failed):
            print(f"{image.source}: {image.message}", file=sys.stderr)
            return UNREADABLE
        if not hasattr(self._own, "classifier"):
            self._own.classifier = Classifier(self._model)
            self._opened.append(self._own.classifier)
        classifier: Classifier = self._own.classifier
        try:
            return classifier.classify(image, top_k=1)[0].label
        except ImageError as error:
            print(f"{image}: {error}", file=sys.stderr)
            return UNREADABLE

    def close(self) -> None:
        """Close the classifiers of all threads, when these have ended."""
        for classifier in self._opened:
            classifier.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="bundle, .tflite or .onnx file")
    parser.add_argument("folder", type=Path, help="images, at any depth")
    asked = parser.parse_args()
    try:
        with contextlib.closing(Labeller(asked.model)) as labeller, ThreadPoolExecutor(core_count()) as pool:
            counts = Counter(pool.map(labeller.label, find_images([asked.folder])))
    except EdgeKitError as error:
        sys.exit(f"count_labels: {error}")
    for label, count in counts.most_common():
        print(f"{count:6} {label}")


if __name__ == "__main__":
    main()
