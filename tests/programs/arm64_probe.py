"""Ask edgekit for its answers on this machine and write them as JSON: arm64_probe.py REQUEST.json ANSWER.json.

`test_arm64_conformance.py` runs it on this machine and in the arm64 guest and compares the two files. It imports
`edge_runtime` alone, as a device does.

REQUEST holds ``images`` (paths), ``specs`` (input specs as in a manifest), ``smileys`` (how many to draw) and
``bundle`` (a path).
"""

import hashlib
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import numpy as np

import edge_runtime
from edge_runtime.classifier import Classifier
from edge_runtime.contract import GOLDEN_FILE, InputSpec
from edge_runtime.errors import ImageError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.preprocess import load_image, prepare
from edge_runtime.strict import from_mapping
from edge_runtime.workstation.datasets.smileys import iter_smileys

DISTRIBUTIONS = ("numpy", "opencv-python-headless", "ai-edge-litert")


def main(request_path, answer_path):
    """Answer one request."""
    request = json.loads(request_path.read_text())
    specs = [from_mapping(InputSpec, spec, "spec") for spec in request["specs"]]
    bundle = Path(request["bundle"])
    answer = {
        "machine": platform.machine(),
        "package": edge_runtime.__file__,
        "versions": {name: importlib.metadata.version(name) for name in DISTRIBUTIONS},
        "pictures": {path: _image(Path(path), specs) for path in request["pictures"]},
        "smileys": {stem: _sha256(image) for _, stem, image in iter_smileys(request["smileys"], seed=5)},
        "probabilities": _probabilities(bundle),
    }
    answer_path.write_text(json.dumps(answer))


def _image(path, specs):
    """SHA-256 of the decoded pixels and of the model input for each spec, or the reason why there are none."""
    try:
        image = load_image(path)
    except ImageError as error:
        return {"error": str(error)}
    prepared = {f"{spec.width}x{spec.height} {spec.crop.value}": _sha256(prepare(image, spec)) for spec in specs}
    return {"decoded": _sha256(image), **prepared}


def _sha256(array):
    return hashlib.sha256(f"{array.dtype} {array.shape} ".encode() + array.tobytes()).hexdigest()


def _probabilities(bundle):
    """Probabilities [golden inputs, labels] of each TFLite artifact. JSON keeps every bit of a float32."""
    with np.load(bundle / GOLDEN_FILE) as golden:
        images_nhwc_rgb_u8 = golden["images_nhwc_rgb_u8"]
    found = {}
    for artifact in read_bundle_manifest(bundle).artifacts:
        if artifact.file.endswith(".tflite"):
            with Classifier(bundle, variant=artifact.variant) as classifier:
                found[artifact.variant.value] = [
                    classifier.probabilities(image).tolist() for image in images_nhwc_rgb_u8
                ]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
