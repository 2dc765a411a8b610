"""Run one artifact of a bundle over prepared images; for an environment that has tflite-runtime and no LiteRT.

``python tflite_runtime_probe.py MODEL.tflite IMAGES.npy`` prints the runtime's name and the probabilities as JSON.
"""

import json
import sys

import numpy as np

from edge_runtime import Classifier


def main():
    """Write what this environment's runtime answers."""
    images_nhwc_rgb_u8 = np.load(sys.argv[2], allow_pickle=False)
    with Classifier(sys.argv[1]) as classifier:
        outputs = [classifier.probabilities(image).tolist() for image in images_nhwc_rgb_u8]
        print(json.dumps({"engine": classifier.engine.name, "version": classifier.engine.version, "outputs": outputs}))


if __name__ == "__main__":
    main()
