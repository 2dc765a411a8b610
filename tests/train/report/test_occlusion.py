"""Occlusion maps point to the part of the image that a model looks at."""

import numpy as np
import pytest

from edge_runtime.contract import Head, OutputSpec
from train.report.occlusion import MAX_MAPS, OcclusionMap, occlusion_maps

SIDE_PX = 32


def model_that_looks_at(rows, columns, units):
    """A network whose last output is higher the brighter that part of the image is."""
    import keras

    weights = np.zeros((SIDE_PX, SIDE_PX, 3, units), np.float32)
    weights[rows, columns, :, -1] = 3e-5
    inputs = keras.Input((SIDE_PX, SIDE_PX, 3), dtype="uint8")
    dense = keras.layers.Dense(units, activation="softmax" if units > 1 else "sigmoid")
    model = keras.Model(inputs, dense(keras.layers.Flatten()(keras.layers.Rescaling(1.0)(inputs))))
    dense.set_weights([weights.reshape(-1, units), np.full(units, -1.0, np.float32)])
    return model


@pytest.fixture
def image():
    """Dark but for a bright patch at the upper right."""
    image_hwc_rgb_u8 = np.full((SIDE_PX, SIDE_PX, 3), 20, np.uint8)
    image_hwc_rgb_u8[:8, 24:] = 250
    return image_hwc_rgb_u8


@pytest.mark.parametrize("head", list(Head))
@pytest.mark.parametrize("answer", [0, 1])
def test_the_strongest_place_is_where_the_model_looks(image, head, answer):
    model = model_that_looks_at(slice(0, 8), slice(24, 32), 1 if head is Head.SIGMOID else 2)
    spec = OutputSpec(head, 0.5 if head is Head.SIGMOID else 0.0)
    (found,) = occlusion_maps(model, image[np.newaxis], np.array([answer]), spec)
    assert found.drops.shape == (8, 8)
    # Hiding the bright patch takes score from the second label and gives it to the first.
    extreme = np.argmax(found.drops if answer else -found.drops)
    assert np.unravel_index(extreme, (8, 8)) in {(0, 6), (0, 7), (1, 6), (1, 7)}
    assert np.abs(found.drops[4:, :4]).max() < 1e-6
    assert (found.strongest > 0.05) == (answer == 1)


def test_the_drawing_is_red_where_hiding_lowers_the_score_and_blue_where_it_raises_it(image):
    drops = np.zeros((8, 8), np.float32)
    drops[6:, :2], drops[6:, 6:] = 0.4, -0.4
    drawn = OcclusionMap(image, drops).drawn().astype(int)
    assert drawn.shape == image.shape
    assert drawn[28, 3, 0] > 2 * drawn[28, 3, 2]
    assert drawn[28, 28, 2] > 2 * drawn[28, 28, 0]
    assert np.array_equal(drawn[2, 2], image[2, 2])


def test_a_map_without_effect_leaves_the_image_as_it_is(image):
    found = OcclusionMap(image, np.zeros((8, 8), np.float32))
    assert (found.strongest, np.array_equal(found.drawn(), image)) == (0.0, True)


def test_their_number_is_limited_and_none_is_none(image):
    model, spec = model_that_looks_at(slice(0, 8), slice(0, 8), 2), OutputSpec(Head.SOFTMAX, 0.0)
    images = np.repeat(image[np.newaxis], MAX_MAPS + 3, axis=0)
    assert len(occlusion_maps(model, images, np.zeros(len(images), int), spec)) == MAX_MAPS
    assert occlusion_maps(model, images[:0], np.zeros(0, int), spec) == []
