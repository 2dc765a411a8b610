"""Classify prepared images with MediaPipe's own ImageClassifier; runs in an environment that has only MediaPipe.

``python mediapipe_probe.py IMAGES.npy MODEL...`` prints JSON: for each model its scores, or why it was refused.
"""

import json
import sys

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions


def classify(model, images_nhwc_rgb_u8):
    """Score of every label, image by image."""
    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model), max_results=-1)
    with ImageClassifier.create_from_options(options) as classifier:
        results = [
            classifier.classify(mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image))
            for image in images_nhwc_rgb_u8
        ]
    return [
        {category.category_name: category.score for category in result.classifications[0].categories}
        for result in results
    ]


def main():
    """Write what MediaPipe says of each model."""
    images_nhwc_rgb_u8 = np.load(sys.argv[1], allow_pickle=False)
    answers = {}
    for model in sys.argv[2:]:
        try:
            answers[model] = {"scores": classify(model, images_nhwc_rgb_u8)}
        except (RuntimeError, ValueError) as error:
            answers[model] = {"refused": str(error)}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
