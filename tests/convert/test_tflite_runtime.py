"""``edge-convert run --runtime tflite-runtime==2.14`` gives files that this runtime opens, and answers right.

That it opens them says little: given operators that it has in an older form, it computes nonsense without a word, for
instance from a dense layer with float input and a scale for each channel.
"""

import json

import numpy as np
import pytest

from convert.tflite_model import read_model, unsupported
from edge_runtime import Classifier
from edge_runtime.contract import Variant
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.tflite.versions import parse_target
from support.paths import PROGRAMS

RUNTIME = "tflite-runtime==2.14"
# Largest difference in probability from LiteRT on the same file. Its int8 kernels round otherwise, by up to 28/255 in
# deep networks; so do its hybrid ones (dynamic), which scale the activations of each image anew.
TOLERANCES = {
    Variant.FLOAT32: 1e-5,
    Variant.FLOAT16: 1e-5,
    Variant.DYNAMIC: 0.1,
    Variant.INT8: 0.15,
    Variant.INT8_PER_TENSOR: 0.15,
    Variant.INT16X8: 0.01,
}
CLEAR_MARGIN = 0.3


@pytest.fixture(scope="module")
def old_bundle(run_program, small_run, tmp_path_factory):
    bundle = tmp_path_factory.mktemp("bundles") / "old"
    wanted = [argument for variant in TOLERANCES for argument in ("--variant", variant.value)]
    wanted += ["--runtime", RUNTIME, "--max-drop", "100", "--out", bundle]
    done = run_program("edge-convert", "run", small_run, *wanted)
    assert done.returncode == 0, done.stderr
    return bundle


@pytest.fixture(scope="module")
def images(old_bundle):
    with np.load(old_bundle / "golden.npz", allow_pickle=False) as golden:
        return golden["images_nhwc_rgb_u8"]


@pytest.mark.parametrize("variant", TOLERANCES)
def test_it_gives_the_same_answers_as_litert(tflite_python, old_bundle, images, variant, tmp_path):
    file = old_bundle / variant.file_name(read_bundle_manifest(old_bundle).model_name)
    np.save(tmp_path / "pictures.npy", images)
    # One process for each file: a runtime that dies takes nothing else along.
    done = tflite_python(PROGRAMS / "tflite_runtime_probe.py", file, tmp_path / "pictures.npy")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["engine"], answer["version"]) == ("tflite-runtime", "2.14.0")
    with Classifier(file) as classifier:
        ours = np.stack([classifier.probabilities(image) for image in images])
    theirs = np.array(answer["outputs"])
    assert np.abs(theirs - ours).max() <= TOLERANCES[variant]
    ranked = np.sort(ours, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= CLEAR_MARGIN
    assert clear.any()
    assert theirs.argmax(axis=1)[clear].tolist() == ours.argmax(axis=1)[clear].tolist()


@pytest.mark.parametrize("variant", TOLERANCES)
def test_its_operators_are_declared_in_versions_that_it_has(old_bundle, variant):
    file = old_bundle / variant.file_name(read_bundle_manifest(old_bundle).model_name)
    assert unsupported(read_model(file), parse_target(RUNTIME)) == []
