"""The lists of layers and operators let through what people convert: Keras' own families, and real SavedModels."""

from __future__ import annotations

import json

import pytest

from convert.source.keras_file import inspect_hdf5, refuse_code
from convert.source.saved_model import inspect_saved_model

FAMILIES = ("MobileNetV3Small", "EfficientNetV2B0", "ConvNeXtTiny", "InceptionResNetV2", "NASNetMobile", "ResNet50V2")

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_families_of_keras_are_let_through(library, name):
    keras = pytest.importorskip(library)
    # The size at which all can be built without weights; nothing is computed.
    model = getattr(keras.applications, name)(weights=None, input_shape=(224, 224, 3), classes=3)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    assert len(config["config"]["layers"]) > 50
    refuse_code(config, name)


def layers_and_training(library):
    """A small classifier with augmentation, normalization and dropout."""
    layers = library.layers
    return library.Sequential(
        [
            *(library.Input((16, 16, 3)), layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.1)),
            *(layers.RandomContrast(0.1), layers.RandomTranslation(0.1, 0.1), layers.Resizing(12, 12)),
            *(layers.Conv2D(2, 3), layers.BatchNormalization(), layers.Dropout(0.3), layers.Flatten()),
            layers.Dense(2, "softmax"),
        ]
    )


def test_saved_models_of_keras_are_let_through(tmp_path):
    import keras
    import tf_keras

    layers_and_training(keras).export(tmp_path / "three", verbose=False)
    old = layers_and_training(tf_keras)
    old.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    # With its training functions, and those that save.
    old.save(tmp_path / "two", save_format="tf")
    for name in ("two", "three"):
        assert inspect_saved_model(tmp_path / name, unsafe=False).input_shape == (None, 16, 16, 3)


def test_a_saved_model_with_loops_gradients_and_a_signature_for_files_is_let_through(tmp_path):
    import tensorflow as tf

    images = tf.TensorSpec((None, 8, 8, 3), tf.float32)

    class Model(tf.Module):
        def __init__(self):
            self.weight = tf.Variable(tf.ones((192, 2)))

        @tf.function(input_signature=[images])
        def serve(self, image):
            tf.debugging.assert_all_finite(image, "finite")
            image = tf.map_fn(tf.image.per_image_standardization, image)
            return tf.nn.softmax(tf.reshape(image, (-1, 192)) @ self.weight)

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
        def serve_files(self, files):
            size = tf.TensorSpec((8, 8, 3), tf.float32)
            read = tf.map_fn(
                lambda f: tf.image.resize(tf.io.decode_jpeg(f, 3), (8, 8)), files, fn_output_signature=size
            )
            return self.serve(read)

        @tf.function(input_signature=[images])
        def train(self, image):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(self.serve(image)[:, 0])
            self.weight.assign_sub(0.1 * tape.gradient(loss, self.weight))
            return loss

    model = Model()
    tf.saved_model.save(
        model, str(tmp_path / "saved"), signatures={"serving_default": model.serve, "files": model.serve_files}
    )
    assert inspect_saved_model(tmp_path / "saved", unsafe=False).output_width == 2


def test_functions_of_tensorflow_that_calculate_are_let_through(tmp_path):
    """The layers TFOpLambda and SlicingOpLambda, as Keras 2 makes them of TensorFlow's functions."""
    import tensorflow as tf
    import tf_keras

    image = tf_keras.Input((16, 16, 3))
    x = tf.image.resize(tf.nn.relu6(tf.math.truediv(image, 127.5) - 1.0), (8, 8))[:, 2:, :, :]
    x = tf_keras.layers.Dense(2)(tf.reduce_mean(tf.concat([x, tf.clip_by_value(x, 0.0, 1.0)], -1), [1, 2]))
    tf_keras.Model(image, tf.nn.softmax(x * 2.0 + 1.0)).save(tmp_path / "m.h5")
    assert inspect_hdf5(tmp_path / "m.h5", unsafe=False).input_shape == (None, 16, 16, 3)
