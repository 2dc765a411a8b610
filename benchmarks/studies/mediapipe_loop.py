"""MediaPipe's ``ImageClassifier`` over a list of images, for a Python that has MediaPipe.

    python mediapipe_loop.py MODEL.tflite LIST

Images are read with OpenCV, because its own ``Image.create_from_file`` gives a grey JPEG one channel, on which the
classifier fails and then refuses every image. Runs the list once, and once more for each line of standard input, and
prints images a second.
"""

from __future__ import annotations

import sys
import time
from itertools import chain

import cv2
import mediapipe as mp  # type: ignore[import-not-found]  # it lives in an environment of its own
from mediapipe.tasks.python import BaseOptions  # type: ignore[import-not-found]
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions  # type: ignore[import-not-found]


def read(path: str) -> mp.Image:
    """Read an image in MediaPipe's form."""
    image_hwc_rgb_u8 = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]  # may be None
    return mp.Image(image_format=mp.ImageFormat.SRGB, data=image_hwc_rgb_u8)


with open(sys.argv[2], encoding="utf-8") as file:  # noqa: PTH123  a script of its own, as a user writes it
    paths = file.read().splitlines()
options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=sys.argv[1]), max_results=3)
with ImageClassifier.create_from_options(options) as classifier:
    for _ in chain([""], sys.stdin):
        started_s = time.perf_counter()
        for path in paths:
            classifier.classify(read(path))
        print(len(paths) / (time.perf_counter() - started_s), flush=True)
