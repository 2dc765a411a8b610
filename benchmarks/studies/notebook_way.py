"""Transfer learning as notebooks do it, to compare ``edge-train`` with: see ``benchmarks/studies/training.py``.

``image_dataset_from_directory``, a frozen MobileNetV2 inside the model, every epoch through all of it, as TensorFlow's
transfer learning tutorial has it: https://www.tensorflow.org/tutorials/images/transfer_learning. Prints a JSON line
after each epoch: seconds since the start of the process, and validation accuracy.

    python notebook_way.py DATA WEIGHTS.h5 ALPHA EPOCHS LEARNING_RATE
"""

from __future__ import annotations

import json
import sys
import time

import keras

STARTED = time.perf_counter()


SIDE_PX, BATCH_SIZE = 160, 32


def read(folder: str, *, shuffle: bool) -> object:
    """Images and labels as ``tf.data``, with prefetching, as the tutorial has it."""
    import tensorflow as tf

    found = keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE_PX, SIDE_PX), batch_size=BATCH_SIZE, shuffle=shuffle, verbose=False
    )
    return found.prefetch(tf.data.AUTOTUNE)


def main(data: str, weights: str, alpha: float, epochs: int, learning_rate: float) -> None:
    """Train the head, and say after each epoch how far it is."""
    keras.utils.set_random_seed(1)
    train, validation = read(f"{data}/train", shuffle=True), read(f"{data}/validation", shuffle=False)
    base = keras.applications.MobileNetV2(
        input_shape=(SIDE_PX, SIDE_PX, 3), alpha=alpha, include_top=False, weights=weights
    )
    base.trainable = False
    inputs = keras.Input((SIDE_PX, SIDE_PX, 3))
    x = keras.layers.RandomRotation(0.2)(keras.layers.RandomFlip("horizontal")(inputs))
    x = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(x), training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(learning_rate), "binary_crossentropy", metrics=["accuracy"])

    def say(epoch: int, logs: dict[str, float]) -> None:
        line = {"epoch": epoch + 1, "seconds": time.perf_counter() - STARTED, "accuracy": logs["val_accuracy"]}
        print(json.dumps(line), flush=True)

    model.evaluate(validation, verbose=0)
    callback = keras.callbacks.LambdaCallback(on_epoch_end=say)
    model.fit(train, validation_data=validation, epochs=epochs, verbose=0, callbacks=[callback])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
