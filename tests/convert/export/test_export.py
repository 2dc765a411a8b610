"""The export child: one graph with everything inside, held against the original model, and its refusals."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from convert import children
from convert.conversion import export_job
from convert.export.child import export
from convert.export.loading import pixel_graph, prepare_pixels
from convert.options import ForeignOptions, InputRange, Loader, ModelColor, ModelOutput
from convert.quantize.calibration import open_interpreter, probabilities
from convert.source.model_source import read_model
from edge_runtime.contract import Crop
from edge_runtime.errors import ModelError, OutputError
from support.programs import run_module
from support.tflite_models import operators_of

SIZE = 12
RNG = np.random.default_rng(0)
# Each of a colour of its own, for noise alone looks the same to a model that takes the mean.
IMAGES = (RNG.integers(0, 200, (40, 1, 1, 3)) + RNG.integers(0, 56, (40, SIZE, SIZE, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Small models of three libraries; none has been trained."""
    import keras
    import tf_keras

    folder = tmp_path_factory.mktemp("models")
    keras.utils.set_random_seed(0)

    def network(library, last, channels=3):
        image = library.Input((SIZE, SIZE, channels), name="image")
        # Large weights, so that another channel order or scale shows in the probabilities.
        large = library.initializers.RandomNormal(0, 1, seed=3)
        x = library.layers.Conv2D(4, 3, padding="same", activation="relu", kernel_initializer=large)(image)
        return library.Model(image, last(library.layers.GlobalAveragePooling2D()(x)))

    def logits(library):
        return library.layers.Dense(3, kernel_initializer=library.initializers.RandomNormal(0, 1, seed=1))

    network(keras, logits(keras)).save(folder / "logits.keras")
    network(keras, lambda x: keras.layers.Softmax()(logits(keras)(x))).export(folder / "saved", verbose=False)
    erfinv = network(keras, lambda x: keras.layers.Softmax()(keras.ops.erfinv(0.9 * keras.ops.tanh(logits(keras)(x)))))
    erfinv.save(folder / "erfinv.keras")
    random = tf_keras.initializers.RandomNormal(0, 3, seed=2)
    gray = network(tf_keras, tf_keras.layers.Dense(1, "sigmoid", kernel_initializer=random), channels=1)
    gray.save(folder / "gray.h5")
    network(tf_keras, logits(tf_keras)).save(folder / "saved2", save_format="tf")
    image = keras.Input((SIZE, SIZE, 3))
    flipped = keras.layers.GlobalMaxPooling2D()(keras.layers.RandomFlip()(image))
    keras.Model(image, keras.layers.Dense(3, "softmax")(flipped)).export(folder / "random", verbose=False)
    keras.Model(image, keras.layers.Conv2D(3, 1)(image)).save(folder / "detector.keras")
    (folder / "two.txt").write_text("no\nyes\n")
    (folder / "three.txt").write_text("a\nb\nc\n")
    return folder


def job_of(model, labels, work_dir, input_range=InputRange.BYTE, onnx=True, **options):
    said = ForeignOptions(labels, input_range, Crop.STRETCH, **options)
    np.save(work_dir / children.CHECK_FILE, IMAGES)
    np.save(work_dir / children.GOLDEN_INPUT_FILE, IMAGES[:3])
    return export_job(read_model(model, said), work_dir, onnx=onnx)


def run_tflite(path):
    (image,) = open_interpreter(path.read_bytes()).get_input_details()
    assert (image["name"], image["dtype"], list(image["shape"])) == ("image", np.uint8, [1, SIZE, SIZE, 3])
    return probabilities(path.read_bytes(), IMAGES), {name for name, _ in operators_of(path.read_bytes())}


def check_exports(job, outputs):
    """Every file of a job against Keras' answers, and those against ``outputs``; the operators of the TFLite file."""
    import onnx
    import onnxruntime

    work_dir = Path(job.work_dir)
    keras_answers = np.load(work_dir / f"keras-{children.CHECK_FILE}")
    assert keras_answers.dtype == np.float32
    np.testing.assert_allclose(keras_answers, outputs, atol=1e-5)
    np.testing.assert_allclose(np.load(work_dir / f"keras-{children.GOLDEN_INPUT_FILE}"), outputs[:3], atol=1e-5)
    assert np.ptp(keras_answers, axis=0).max() > 0.02, "answers that hardly differ would prove nothing"
    tflite_answers, operators = run_tflite(work_dir / children.BASE_TFLITE)
    np.testing.assert_allclose(tflite_answers, keras_answers, atol=1e-5)
    session = onnxruntime.InferenceSession(str(work_dir / children.BASE_ONNX))
    np.testing.assert_allclose(session.run(None, {"image": IMAGES})[0], keras_answers, atol=1e-5)
    model = onnx.load(str(work_dir / children.BASE_ONNX))
    assert [entry.version for entry in model.opset_import if entry.domain == ""] == [18]
    described = [(v.name, v.type, v.shape) for v in (*session.get_inputs(), *session.get_outputs())]
    assert described == [
        ("image", "tensor(uint8)", ["batch", SIZE, SIZE, 3]),
        ("probabilities", "tensor(float)", ["batch", keras_answers.shape[1]]),
    ]
    return operators


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_bgr_scaling_and_softmax_are_folded_into_the_graph(models, tmp_path):
    import keras

    options = {"color": ModelColor.BGR, "output": ModelOutput.LOGITS}
    job = job_of(models / "logits.keras", models / "three.txt", tmp_path, InputRange.SIGNED, **options)
    exported = export(job)
    assert (exported.opset, exported.keras) == (18, f"keras {keras.__version__}")
    model = keras.saving.load_model(models / "logits.keras")
    pixels = IMAGES[..., ::-1].astype(np.float32) / 127.5 - 1
    operators = check_exports(job, softmax(model.predict(pixels, verbose=0)))
    assert operators <= {"CAST", "CONV_2D", "ADD", "MEAN", "FULLY_CONNECTED", "SOFTMAX"}


def test_a_gray_sigmoid_of_keras_2_is_exported(models, tmp_path):
    import tf_keras

    job = job_of(models / "gray.h5", models / "two.txt", tmp_path, InputRange.UNIT, color=ModelColor.GRAY)
    assert job.loader is Loader.TF_KERAS
    assert export(job).keras == f"tf-keras {tf_keras.__version__}"
    model = tf_keras.models.load_model(models / "gray.h5", compile=False)
    pixels = IMAGES @ np.array([[0.299], [0.587], [0.114]]) / 255
    outputs = model.predict(pixels.astype(np.float32), verbose=0)
    assert outputs.shape == (40, 1)
    check_exports(job, outputs)


def test_a_saved_model_is_asked_through_its_signature(models, tmp_path):
    import tensorflow as tf

    job = job_of(models / "saved", models / "three.txt", tmp_path, InputRange.UNIT)
    assert export(job).keras == f"saved model of tensorflow {tf.__version__}"
    model = tf.saved_model.load(str(models / "saved"))
    check_exports(job, np.asarray(model.serve(IMAGES.astype(np.float32) / 255)))


def test_a_saved_model_of_keras_2_is_exported(models, tmp_path):
    job = job_of(models / "saved2", models / "three.txt", tmp_path, InputRange.UNIT, output=ModelOutput.LOGITS)
    export(job)
    assert run_tflite(tmp_path / children.BASE_TFLITE)[0].shape == (40, 3)


def test_an_output_by_name_and_a_model_that_was_never_built_are_taken(models, tmp_path):
    import keras

    image = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(image)
    keras.Model(image, {"answer": keras.layers.Dense(3, "softmax")(pooled)}).save(tmp_path / "named.keras")
    unbuilt = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, "softmax")]
    keras.Sequential(unbuilt).save(tmp_path / "unbuilt.keras")
    for name in ("named.keras", "unbuilt.keras"):
        job = job_of(tmp_path / name, models / "three.txt", tmp_path, InputRange.UNIT, image_size=SIZE)
        export(job)
        answers = np.load(tmp_path / f"keras-{children.CHECK_FILE}")
        np.testing.assert_allclose(run_tflite(tmp_path / children.BASE_TFLITE)[0], answers, atol=1e-5)


@pytest.mark.parametrize("input_range", InputRange)
@pytest.mark.parametrize("color", ModelColor)
def test_pixels_are_prepared_alike_in_numpy_and_as_a_graph(input_range, color):
    import tensorflow as tf

    outside = prepare_pixels(IMAGES, input_range, color)
    inside = np.asarray(pixel_graph(tf.constant(IMAGES), input_range, color))
    assert outside.dtype == inside.dtype == np.float32
    low, high = (float(text) for text in input_range.value.split(","))
    np.testing.assert_allclose(inside, outside, atol=2e-6 * max(abs(low), high))
    assert outside.min() >= low - 1e-4
    assert outside.max() <= high + 1e-4
    assert outside.shape[-1] == (1 if color is ModelColor.GRAY else 3)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("logits.keras", {}, r"expected probabilities, .* got .*add --output logits"),
        ("detector.keras", {}, r"expected a classifier, .* got \[None, 12, 12, 3\], which is that of a detector"),
        ("random", {}, "changes a variable at every call.*without its augmentation"),
        ("erfinv.keras", {"output": ModelOutput.LOGITS}, r"no builtin for Erfinv, .*Flex.*replace that layer"),
    ],
)
def test_what_only_the_loaded_model_shows_is_one_sentence(models, tmp_path, model, options, message):
    job = job_of(models / model, models / "three.txt", tmp_path, onnx=False, **options)
    with pytest.raises(ModelError, match=message) as error:
        export(job)
    assert "\n" not in str(error.value)
    assert not (tmp_path / children.BASE_TFLITE).exists()


def test_a_layer_that_the_library_does_not_know_is_one_sentence(models, tmp_path):
    path = tmp_path / "odd.h5"
    path.write_bytes((models / "gray.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"GlobalAveragePooling2D"', '"MyPooling"')
    job = job_of(path, models / "two.txt", tmp_path, color=ModelColor.GRAY, unsafe=True)
    with pytest.raises(ModelError, match=r"tf-keras cannot load it \(\w+: Unknown layer: '?MyPooling") as error:
        export(job)
    assert "\n" not in str(error.value)


def run_child(job):
    path = Path(job.work_dir) / "job.json"
    children.write_message(path, job)
    return run_module("convert.export.child", path)


@pytest.mark.slow
def test_the_child_tells_its_progress_and_what_it_used(models, tmp_path):
    job = job_of(models / "logits.keras", models / "three.txt", tmp_path, output=ModelOutput.LOGITS)
    done = run_child(job)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line in ("float32", "onnx-float32")]
    assert lines == ["float32", "onnx-float32"]
    exported = children.read_message(tmp_path / children.EXPORTED_FILE, children.Exported)
    assert exported.opset == 18
    assert exported.converter.startswith("tensorflow ")
    assert exported.onnx_converter.startswith("tf2onnx ")


@pytest.mark.slow
def test_the_child_leaves_a_sentence_when_it_refuses(models, tmp_path):
    done = run_child(job_of(models / "detector.keras", models / "three.txt", tmp_path))
    assert done.returncode == children.REFUSED_CODE
    assert "Traceback" not in done.stderr
    error = children.read_refusal(tmp_path)
    assert type(error) is ModelError
    assert "detector.keras: expected a classifier" in str(error)


def test_a_refusal_comes_through_or_says_that_it_was_lost(tmp_path):
    assert "make room" in str(children.read_refusal(tmp_path))
    with pytest.raises(SystemExit) as stopped:
        children.refuse(tmp_path, OutputError("no space left"))
    assert stopped.value.code == children.REFUSED_CODE
    refusal = children.read_refusal(tmp_path)
    assert (type(refusal), str(refusal)) == (OutputError, "no space left")
    with pytest.raises(SystemExit):
        children.refuse(tmp_path / "gone", ModelError("x"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "labels", "input_range"),
    [
        ("weights/teachable_machine_keras_model.h5", "a b c d", InputRange.SIGNED),
        ("mlperf_tiny_ic/pretrainedResnet.h5", "0 1 2 3 4 5 6 7 8 9", InputRange.BYTE),
    ],
)
def test_real_keras_2_files_are_exported(real_data, tmp_path, model, labels, input_range):
    (tmp_path / "l.txt").write_text("\n".join(labels.split()))
    folder, name = model.split("/")
    said = ForeignOptions(tmp_path / "l.txt", input_range, Crop.CENTER)
    source = read_model(real_data(folder) / name, said)
    images = np.random.default_rng(1).integers(0, 256, (4, *source.manifest.input.shape_hwc), np.uint8)
    np.save(tmp_path / children.CHECK_FILE, images)
    np.save(tmp_path / children.GOLDEN_INPUT_FILE, images)
    assert export(export_job(source, tmp_path, onnx=False)).keras.startswith("tf-keras 2.")
    assert np.load(tmp_path / f"keras-{children.CHECK_FILE}").shape == (4, len(labels.split()))
    assert (tmp_path / children.BASE_TFLITE).stat().st_size > 100_000
