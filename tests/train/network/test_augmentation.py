"""Augmentation acts where it should, and nowhere else."""

from dataclasses import replace

import numpy as np
import pytest

from support.training import build, cnn


@pytest.mark.slow
def test_one_step_through_augmentation_changes_the_model_and_lowers_the_loss():
    from train.network.augmentation import augmented

    model = build(cnn(), 2).model
    changes = replace(cnn().augment, rotation=0.1, shift=0.1, zoom=0.1, brightness=0.1, contrast=0.1, rand_augment=0.2)
    wrapped = augmented(model, changes, seed=1)
    images = np.zeros((8, 32, 32, 3), np.uint8)
    images[4:] = 255
    targets = np.array([0] * 4 + [1] * 4)
    wrapped.compile("adam", "sparse_categorical_crossentropy")
    before = [np.array(weight) for weight in model.get_weights()]
    losses = [float(wrapped.train_on_batch(images, targets)) for _ in range(10)]
    assert losses[-1] < losses[0]
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


def test_augmentation_leaves_images_alone_outside_fitting():
    from train.network.augmentation import augmented

    model = build(cnn(), 2).model
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    wrapped = augmented(model, replace(cnn().augment, rotation=0.2, brightness=0.5), seed=1)
    np.testing.assert_array_equal(wrapped.predict(images, verbose=0), model.predict(images, verbose=0))


def test_two_views_of_a_mirrored_set_are_the_image_and_its_mirror_image():
    import keras

    from train.network.augmentation import augmented_view

    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    image = keras.Input((32, 32, 3))
    identity = keras.Model(image, keras.layers.Activation("linear")(image))
    views = [augmented_view(identity, cnn().augment, 1, view).predict(images, verbose=0) for view in range(3)]
    np.testing.assert_array_equal(views, [images, images[:, :, ::-1], images])
    turned = augmented_view(identity, replace(cnn().augment, rotation=0.1), 1, 2).predict(images, verbose=0)
    assert (turned != images).mean() > 0.5


def test_augmented_samples_are_images_that_differ():
    from train.network.augmentation import augmented_samples

    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    shown = augmented_samples(images, replace(cnn().augment, rotation=0.1), seed=1)
    assert (shown.dtype, shown.shape) == (np.uint8, images.shape)
    assert (shown != images).mean() > 0.5
