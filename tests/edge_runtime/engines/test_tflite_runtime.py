"""The artifacts in the last tflite-runtime, in a virtual environment of its own, since it needs numpy 1."""

import json
from pathlib import Path

import numpy as np
import pytest

REPLAY = """
import json, sys, numpy as np
from edge_runtime import Classifier
with np.load(sys.argv[1] + "/golden.npz", allow_pickle=False) as golden:
    images = golden["images_nhwc_rgb_u8"]
    result = {}
    for variant in ("float32", "int8"):
        with Classifier(sys.argv[1], variant=variant) as classifier:
            outputs = [classifier.probabilities(image).tolist() for image in images]
            result[variant] = {"engine": classifier.engine.name, "outputs": outputs}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def replayed(tflite_python, small_bundle):
    done = tflite_python("-c", REPLAY, small_bundle)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(("variant", "tolerance"), [("float32", 1e-5), ("int8", 0.15)])
def test_the_artifacts_open_and_give_about_what_litert_gives(replayed, small_bundle, variant, tolerance):
    # Its int8 kernels round differently from LiteRT's, by up to 28/255 on a few outputs; float only in the last digits.
    assert replayed[variant]["engine"] == "tflite-runtime"
    with np.load(small_bundle / "golden.npz", allow_pickle=False) as golden:
        assert np.abs(np.array(replayed[variant]["outputs"]) - golden[variant]).max() <= tolerance


def test_classify_runs_on_it(tflite_python, small_bundle, colored_images):
    arguments = ["--engine", "tflite-runtime", "--format", "jsonl", "--variant", "int8"]
    done = tflite_python("-m", "edge_runtime.cli", "classify", small_bundle, colored_images, *arguments)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(records) == 60
    right = [record["label"] == Path(record["source"]).parent.name for record in records]
    assert np.mean(right) > 0.9
