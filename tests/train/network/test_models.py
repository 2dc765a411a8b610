"""The networks keep the contract: pixels 0..255 in, probabilities out, nothing random inside."""

import h5py
import numpy as np
import pytest

from edge_runtime.errors import IntegrityError, UsageError
from edge_runtime.workstation.datasets.folder import read_folder
from edge_runtime.workstation.statistics import wilson_interval
from support.training import build, cnn
from train.evaluation.metrics import score
from train.intake.images import load_images
from train.network.weights import check_weights, with_checked_weights
from train.recipe import BackboneName, ClassWeights, LossSettings, load_recipe, override
from train.run import resolve_recipe


def mobilenetv2(weights):
    options = {"input.image_size": 32, "backbone.weights": weights}
    return resolve_recipe("mobilenetv2", options, ("backbone.alpha=0.35",))


def test_cnn_small_has_exactly_these_parameters():
    # 5*5*3*16 + 3*3*(16*32 + 32*48 + 48*64) convolutions, 4 per batch-normalised channel, 2*2*64 inputs to the head.
    convolutions = 5 * 5 * 3 * 16 + 9 * (16 * 32 + 32 * 48 + 48 * 64)
    head = (2 * 2 * 64 + 1) * 64 + (64 + 1) * 3
    assert build(cnn(), 3).model.count_params() == convolutions + 4 * (16 + 32 + 48 + 64) + head


def test_a_head_without_a_hidden_layer_is_one_dense_layer():
    network = build(cnn(**{"head.dense_units": 0}), 3)
    assert network.head is None
    assert [layer.name for layer in network.model.layers[-3:]] == ["features", "dropout", "probabilities"]


def test_mobilenetv2_has_exactly_the_published_parameters():
    # keras.io: MobileNetV2 alpha 0.35 without top has 410,208 parameters; then 1280 -> 64 -> 2.
    assert build(mobilenetv2("none"), 2).model.count_params() == 410_208 + 1281 * 64 + 65 * 2


@pytest.mark.parametrize("recipe", [cnn(), mobilenetv2("none")], ids=["cnn-small", "mobilenetv2"])
def test_the_model_keeps_the_contract(recipe):
    model = build(recipe, 3).model
    assert [(tensor.name, tensor.dtype) for tensor in model.inputs] == [("image", "float32")]
    assert (model.layers[-1].name, model.output.shape) == ("probabilities", (None, 3))
    assert not any(layer.__class__.__name__.startswith("Random") for layer in model.layers)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    probabilities = np.asarray(model(images))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(probabilities, np.asarray(model(images.astype(np.float32))))


def test_happy_sad_is_the_network_of_the_tutorials():
    model = build(load_recipe("happy-sad"), 2).model
    kinds = [layer.__class__.__name__ for layer in model.layers]
    block = ["Conv2D", "ReLU", "MaxPooling2D"]
    assert kinds == ["InputLayer", "Rescaling", *block * 3, "Flatten", "Dropout", "Dense", "Dropout", "Dense"]
    assert (model.output.shape, model.layers[-1].activation.__name__) == ((None, 1), "sigmoid")
    scaled = model.get_layer("scale")(np.array([[0.0, 255.0]]))
    np.testing.assert_allclose(np.asarray(scaled), [[0.0, 1.0]], atol=1e-6)


def test_a_sigmoid_head_needs_two_classes():
    with pytest.raises(UsageError, match=r"a sigmoid head needs two classes, got 3; set head\.kind=softmax"):
        build(load_recipe("happy-sad"), 3)


@pytest.mark.parametrize("name", list(BackboneName))
def test_every_backbone_takes_pixels_0_to_255(name):
    settings = (f"backbone.name={name.value}", "input.image_size=32", "backbone.alpha=1.0")
    model = build(resolve_recipe("mobilenetv2", {"backbone.weights": "none"}, settings), 2).model
    assert "Rescaling" in [layer.__class__.__name__ for layer in model.layers[1:4]]
    first = next(layer for layer in model.layers if layer.__class__.__name__ == "Conv2D")
    import keras

    scaled = keras.Model(model.inputs[0], first.input)
    low, high = (np.asarray(scaled(np.full((1, 32, 32, 3), pixel, np.float32))) for pixel in (0, 255))
    assert -3.0 < low.min() < high.max() < 3.0
    assert high.max() - low.min() > 0.9


def test_fine_tuning_begins_at_the_layer_that_keras_numbers(mobilenetv2_weights):
    import keras

    from train.network.models import unfreeze

    network = build(with_checked_weights(mobilenetv2(str(mobilenetv2_weights))), 2)
    body = keras.applications.MobileNetV2(input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None)
    unfreeze(network.backbone, 100)
    trained = {layer.name for layer in network.model.layers if layer.trainable and layer.weights}
    weighted = [layer for layer in body.layers[100:] if layer.weights]
    expected = {layer.name for layer in weighted if not isinstance(layer, keras.layers.BatchNormalization)}
    assert trained == expected | {"hidden", "probabilities"}


def test_fine_tuning_from_a_layer_that_is_not_there_is_one_sentence(mobilenetv2_weights):
    recipe = override(with_checked_weights(mobilenetv2(str(mobilenetv2_weights))), {"finetune.from_layer": 155})
    with pytest.raises(UsageError, match=r"finetune\.from_layer must be below 155"):
        build(recipe, 2)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_the_learning_rate_rises_and_then_falls_or_stays(schedule):
    from train.fitting.phases import compile_model

    recipe = cnn(**{"optimizer.schedule": schedule, "optimizer.warmup": 0.2, "optimizer.learning_rate": 0.5})
    model = build(recipe, 2).model
    compile_model(model, recipe, recipe.optimizer, 100)
    rate = [float(np.asarray(model.optimizer._learning_rate(step))) for step in (0, 20, 60, 100)]
    assert rate == pytest.approx([0.05, 0.5, 0.25, 0.0] if schedule == "cosine" else [0.05, 0.5, 0.5, 0.5], abs=1e-6)


def test_balanced_classes_count_the_same_together():
    from train.fitting.phases import sample_weights, target_rows

    targets = np.array([0, 0, 0, 1])
    weights = sample_weights(targets, 2, LossSettings(0.0, ClassWeights.BALANCED))
    assert weights is not None
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2.0], rtol=1e-6)
    assert sample_weights(targets, 2, LossSettings(0.0, ClassWeights.EQUAL)) is None
    np.testing.assert_array_equal(target_rows(targets, 3, cnn().head)[3], [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(target_rows(targets, 2, load_recipe("happy-sad").head)[:, 0], targets)


@pytest.mark.parametrize("backbone", [None, pytest.param(BackboneName.EFFICIENTNET_B0, marks=pytest.mark.slow)])
def test_the_plain_copy_of_a_mixed_model_is_float32_and_gives_its_answers(backbone):
    import keras

    from train.network.models import plain_model

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        recipe = cnn()
        if backbone:
            settings = (f"backbone.name={backbone.value}", "backbone.weights=none", "finetune.epochs=0")
            recipe = resolve_recipe("mobilenetv2", {"input.image_size": 32}, settings)
        mixed = build(recipe, 3).model
        plain = plain_model(mixed)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    assert "bfloat16" in {layer.compute_dtype for layer in mixed.layers}
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(np.asarray(plain(images)), np.asarray(mixed(images)), atol=0.02)
    assert ([tensor.name for tensor in plain.inputs], plain.layers[-1].name) == (["image"], "probabilities")


def test_a_frozen_backbone_and_its_head_are_the_model_in_two_halves(mobilenetv2_weights):
    network = build(with_checked_weights(mobilenetv2(str(mobilenetv2_weights))), 3)
    assert network.backbone is not None
    assert network.head is not None
    assert len(network.model.trainable_weights) == len(network.head.trainable_weights) == 4
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    halves = network.head(network.backbone(images))
    np.testing.assert_allclose(np.asarray(halves), np.asarray(network.model(images)), atol=1e-6)
    with h5py.File(mobilenetv2_weights) as file:
        expected = file["Conv_1/Conv_1/kernel:0"][()]
    np.testing.assert_array_equal(network.model.get_layer("Conv_1").get_weights()[0], expected)


@pytest.mark.slow
def test_evaluating_known_features_gives_what_the_images_give(mobilenetv2_weights, colored_images):
    from train.evaluation.evaluate import evaluate
    from train.fitting.phases import phases_of, prepare_task

    recipe = with_checked_weights(mobilenetv2(str(mobilenetv2_weights)))
    data = load_images(read_folder(colored_images), recipe.input.spec(), recipe.split, 1)
    network = build(recipe, 2)
    features = prepare_task(phases_of(recipe)[0], network, data, recipe, 0).features
    assert features is not None
    assert features.shape == (60, 1280)
    scores = [evaluate(network.model, data, recipe, head=network.head, features=known) for known in (None, features)]
    np.testing.assert_allclose(scores[0].probabilities, scores[1].probabilities, atol=1e-4)


def test_alpha_comes_from_the_file(real_data, mobilenetv2_weights):
    assert check_weights(mobilenetv2_weights, BackboneName.MOBILENETV2) == 0.35
    weights = real_data("weights")
    assert check_weights(weights / "mobilenet_v2_0.35_224_no_top.h5", BackboneName.MOBILENETV2) == 0.35
    assert check_weights(weights / "mobilenet_v2_1.0_no_top_derived.h5", BackboneName.MOBILENETV2) == 1.0
    with pytest.raises(IntegrityError, match="expected the weights of a Keras mobilenetv2 without its top layer"):
        check_weights(weights / "teachable_machine_keras_model.h5", BackboneName.MOBILENETV2)


def test_a_mobilenetv2_weights_that_is_none_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no such weight file"):
        check_weights(tmp_path / "absent.h5", BackboneName.MOBILENETV2)
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(IntegrityError, match="cannot be read as an HDF5 weight file"):
        check_weights(tmp_path / "text.h5", BackboneName.MOBILENETV2)


@pytest.mark.parametrize("kind", ["link", "external"])
def test_a_mobilenetv2_weights_that_reaches_for_other_files_is_refused(kind, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(4096))
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("Conv_1/kernel", shape=(1, 1, 112, 1280), dtype="f4")
        if kind == "link":
            file["other"] = h5py.ExternalLink("secret", "/")
        else:
            file.create_dataset("other", (1024,), "f4", external=[(str(tmp_path / "secret"), 0, 4096)])
    with pytest.raises(IntegrityError, match="'other' is"):
        check_weights(path, BackboneName.MOBILENETV2)


def test_right_width_but_other_layers_is_one_sentence(tmp_path):
    path = tmp_path / "half.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"Conv_1"]
        file.create_group("Conv_1").attrs["weight_names"] = [b"Conv_1/kernel:0"]
        file.create_dataset("Conv_1/Conv_1/kernel:0", data=np.zeros((1, 1, 112, 1280), np.float32))
    with pytest.raises(IntegrityError, match="but Keras cannot load it"):
        build(with_checked_weights(mobilenetv2(str(path))), 2)


def test_scores_of_a_worked_example():
    scores = score(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), ("a", "b", "c"))
    assert (scores.confusion, scores.accuracy) == (((1, 1, 0), (1, 2, 0), (0, 0, 0)), pytest.approx(0.6))
    assert (scores.classes[1].precision, scores.classes[1].recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (scores.classes[2].images, scores.classes[2].precision, scores.classes[2].f1) == (0, 0.0, 0.0)


def test_wilson_interval_agrees_with_the_literature():
    # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I: 81/263 and 0/20.
    assert wilson_interval(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson_interval(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
