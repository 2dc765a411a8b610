"""MediaPipe's own ImageClassifier, in a virtual environment of its own, opens our TFLite files and agrees with us."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime import Classifier
from edge_runtime.contract import Variant
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.preprocess import prepare
from support.paths import CHECKOUT, PROGRAMS
from support.programs import run

# Edge TPU files need the accelerator.
TFLITE_VARIANTS = [v for v in Variant if v.suffix == ".tflite" and v is not Variant.EDGETPU]
# What MediaPipe's image tasks take; an int16 output is refused by name.
TAKEN_OUTPUTS = ("uint8", "float32")
# Both round alike; float32 kernels of two builds differ in the last digits. MediaPipe's own scores are float32.
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def mediapipe_python():
    environment = CHECKOUT / ".venv-mediapipe"
    if not any(environment.glob(".setup-*")):
        pytest.skip("no virtual environment with MediaPipe (make test prepares .venv-mediapipe)")
    return environment / "bin" / "python"


@pytest.fixture(scope="module")
def photos(small_bundle, colored_images):
    """Images of exactly the model's size, so that MediaPipe's own resizing has nothing to do: uint8 [n, H, W, 3]."""
    spec = read_bundle_manifest(small_bundle).input
    files = sorted(colored_images.rglob("*.png"))[::6]
    return np.stack([prepare(cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB), spec) for file in files])


@pytest.fixture(scope="module")
def answers(mediapipe_python, small_bundle, photos, tmp_path_factory):
    images = tmp_path_factory.mktemp("mediapipe") / "pictures.npy"
    np.save(images, photos)
    models = sorted(small_bundle.glob("*.tflite"))
    done = run(mediapipe_python, PROGRAMS / "mediapipe_probe.py", images, *models, timeout_s=120)
    assert done.returncode == 0, done.stderr
    return {Path(model).name: answer for model, answer in json.loads(done.stdout.splitlines()[-1]).items()}


@pytest.mark.parametrize("variant", TFLITE_VARIANTS)
def test_mediapipe_gives_the_same_labels_and_scores(answers, small_bundle, photos, variant):
    artifact = next((a for a in read_bundle_manifest(small_bundle).artifacts if a.variant is variant), None)
    if artifact is None:
        pytest.skip(f"the bundle has no {variant.value}")
    answer = answers[artifact.file]
    if artifact.output.dtype not in TAKEN_OUTPUTS:
        assert "UINT8 or FLOAT32" in answer["refused"]
        return
    with Classifier(small_bundle / artifact.file) as classifier:
        ours = np.stack([classifier.probabilities(image) for image in photos])
        labels = classifier.labels
    assert "scores" in answer, answer
    theirs = np.array([[scores[label] for label in labels] for scores in answer["scores"]])
    assert theirs.argmax(axis=1).tolist() == ours.argmax(axis=1).tolist()
    assert set(ours.argmax(axis=1)) == {0, 1}
    assert np.abs(theirs - ours).max() <= TOLERANCE
