"""The networks keep the contract: pixels 0..255 in, probabilities out, nothing random inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from edge_runtime.errors import IntegrityError, UsageError
from train.backend import load_keras
from train.metrics import score, wilson_interval
from train.recipe import Overrides, Recipe, override
from train.recipe_files import load_recipe
from train.run import with_alpha_of_file
from train.weights import infer_alpha


@pytest.fixture(autouse=True)
def _seeded() -> None:
    load_keras(0)


def cnn() -> Recipe:
    return override(load_recipe("cnn-small"), Overrides(image_size=32))


def mobilenetv2(weights: str) -> Recipe:
    recipe = override(load_recipe("mobilenetv2"), Overrides(image_size=32, weights=weights))
    assert recipe.mobilenetv2 is not None
    return replace(recipe, mobilenetv2=replace(recipe.mobilenetv2, alpha=0.35))


def test_cnn_small_has_exactly_these_parameters() -> None:
    from train.models import build

    # 5*5*3*16 + 3*3*(16*32 + 32*48 + 48*64) convolutions, 4 per batch-normalised channel, 2*2*64 inputs to the head.
    convolutions = 5 * 5 * 3 * 16 + 9 * (16 * 32 + 32 * 48 + 48 * 64)
    head = (2 * 2 * 64 + 1) * 64 + (64 + 1) * 3
    assert build(cnn(), 3).model.count_params() == convolutions + 4 * (16 + 32 + 48 + 64) + head


def test_mobilenetv2_has_exactly_the_published_parameters() -> None:
    from train.models import build

    # keras.io: MobileNetV2 alpha 0.35 without top has 410,208 parameters; then 1280 -> 64 -> 2.
    assert build(mobilenetv2("none"), 2).model.count_params() == 410_208 + 1281 * 64 + 65 * 2


@pytest.mark.parametrize("recipe", [cnn(), mobilenetv2("none")], ids=["cnn-small", "mobilenetv2"])
def test_the_model_keeps_the_contract(recipe: Recipe) -> None:
    from train.models import build

    model = build(recipe, 3).model
    assert [tensor.name for tensor in model.inputs] == ["image"]
    assert model.inputs[0].dtype == "float32"
    assert model.layers[-1].name == "probabilities"
    assert model.output.shape == (None, 3)
    assert not any(layer.__class__.__name__.startswith("Random") for layer in model.layers)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    probabilities = np.asarray(model(images))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(probabilities, np.asarray(model(images.astype(np.float32))))


def test_one_step_through_augmentation_changes_the_model_and_lowers_the_loss() -> None:
    from train.models import augmented, build

    recipe = cnn()
    model = build(recipe, 2).model
    changes = replace(recipe.augment, rotation=0.1, shift=0.1, zoom=0.1, brightness=0.1, contrast=0.1)
    wrapped = augmented(model, changes, seed=1)
    assert len(wrapped.layers) == 7
    images = np.zeros((8, 32, 32, 3), np.float32)
    images[4:] = 255.0
    targets = np.array([0] * 4 + [1] * 4)
    wrapped.compile("adam", "sparse_categorical_crossentropy")
    before = [np.array(weight) for weight in model.get_weights()]
    losses = [float(wrapped.train_on_batch(images, targets)) for _ in range(10)]
    assert losses[-1] < losses[0]
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_augmentation_leaves_pictures_alone_outside_fitting() -> None:
    from train.models import augmented, build

    model = build(cnn(), 2).model
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.float32)
    wrapped = augmented(model, replace(cnn().augment, rotation=0.2, brightness=0.5), seed=1)
    np.testing.assert_array_equal(wrapped.predict(images, verbose=0), model.predict(images, verbose=0))
    assert augmented(model, replace(cnn().augment, mirror=False), seed=1) is model


def test_a_frozen_backbone_and_its_head_are_the_model_in_two_halves(mobilenetv2_weights: Path) -> None:
    from train.models import build

    network = build(with_alpha_of_file(mobilenetv2(str(mobilenetv2_weights))), 3)
    assert network.backbone is not None
    assert network.head is not None
    assert len(network.model.trainable_weights) == len(network.head.trainable_weights) == 4
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    halves = network.head(network.backbone(images))
    np.testing.assert_allclose(np.asarray(halves), np.asarray(network.model(images)), atol=1e-6)
    with h5py.File(mobilenetv2_weights) as file:
        expected = file["Conv_1/Conv_1/kernel:0"][()]
    np.testing.assert_array_equal(network.model.get_layer("Conv_1").get_weights()[0], expected)


def test_alpha_comes_from_the_file(real_data: Callable[[str], Path], mobilenetv2_weights: Path) -> None:
    assert infer_alpha(mobilenetv2_weights) == 0.35
    weights = real_data("weights")
    assert infer_alpha(weights / "mobilenet_v2_0.35_224_no_top.h5") == 0.35
    assert infer_alpha(weights / "mobilenet_v2_1.0_no_top_derived.h5") == 1.0
    with pytest.raises(IntegrityError, match="expected the weights of a Keras MobileNetV2 without its top layer"):
        infer_alpha(weights / "teachable_machine_keras_model.h5")


def test_a_mobilenetv2_weights_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such weight file"):
        infer_alpha(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(IntegrityError, match="cannot be read as an HDF5 weight file"):
        infer_alpha(tmp_path / "text.h5")


@pytest.mark.parametrize("kind", ["link", "external"])
def test_a_mobilenetv2_weights_that_reaches_for_other_files_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(4096))
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("Conv_1/kernel", shape=(1, 1, 112, 1280), dtype="f4")
        if kind == "link":
            file["other"] = h5py.ExternalLink("secret", "/")
        else:
            file.create_dataset("other", (1024,), "f4", external=[(str(tmp_path / "secret"), 0, 4096)])
    with pytest.raises(IntegrityError, match="'other' is"):
        infer_alpha(path)


def test_right_width_but_other_layers_is_one_sentence(tmp_path: Path) -> None:
    from train.models import build

    path = tmp_path / "half.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"Conv_1"]
        file.create_group("Conv_1").attrs["weight_names"] = [b"Conv_1/kernel:0"]
        file.create_dataset("Conv_1/Conv_1/kernel:0", data=np.zeros((1, 1, 112, 1280), np.float32))
    with pytest.raises(IntegrityError, match="but Keras cannot load it"):
        build(with_alpha_of_file(mobilenetv2(str(path))), 2)


def test_scores_of_a_worked_example() -> None:
    scores = score(np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), ("a", "b", "c"))
    assert scores.confusion == ((1, 1, 0), (1, 2, 0), (0, 0, 0))
    assert scores.accuracy == pytest.approx(0.6)
    assert (scores.classes[1].precision, scores.classes[1].recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (scores.classes[2].images, scores.classes[2].precision, scores.classes[2].f1) == (0, 0.0, 0.0)


def test_wilson_interval_agrees_with_the_literature() -> None:
    # Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I: 81/263 and 0/20.
    assert wilson_interval(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson_interval(0, 20) == (0.0, pytest.approx(0.1611, abs=1e-4))
