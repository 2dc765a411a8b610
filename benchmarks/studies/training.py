"""Duration of ``edge-train`` beside the notebook way, to the same accuracy on the same photos.

    python -m benchmarks.studies.training DATA WEIGHTS.h5 ALPHA [RUNS]

Both are whole processes from a cold start, in turn (A B A B ...): ``edge-train run --recipe mobilenetv2`` without
fine-tuning and with an empty cache, report and evaluation included, and the notebook way until its validation accuracy
first reaches that of the other, or for 15 epochs. DATA holds ``train`` and ``validation``; the accuracy of both is over
all images of ``validation``.

The notebook way is transfer learning as in TensorFlow's tutorial: ``image_dataset_from_directory``, a frozen
MobileNetV2 inside the model, every epoch through all of it, see https://www.tensorflow.org/tutorials/images/transfer_learning.
It is a process of its own, which prints a JSON line after each epoch: seconds since its start, and validation accuracy.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_STARTED_S = time.perf_counter()
_EPOCHS, _NOTEBOOK_EPOCHS = 10, 15
_SIDE_PX, _BATCH_SIZE = 160, 32
_NOTEBOOK = "--notebook"


@dataclass(frozen=True)
class Timing:
    """Wall seconds of a whole process, and the validation accuracy 0..1 that it reached."""

    seconds: float
    accuracy: float


def time_edge_train(data: str, weights: str) -> Timing:
    """Run ``edge-train run`` of the head once, with an empty cache."""
    from benchmarks.studies.common import installed_program, run_whole

    with tempfile.TemporaryDirectory() as scratch:
        command = [installed_program("edge-train"), "run", "--data", data, "--recipe", "mobilenetv2"]
        command += ["--weights", weights, "--out", f"{scratch}/run"]
        command += ["--set", "finetune.epochs=0", "--epochs", str(_EPOCHS)]
        finished = run_whole(command, EDGEKIT_CACHE=scratch)
        metrics = json.loads(Path(scratch, "run", "metrics.json").read_text(encoding="utf-8"))
    # The run takes a part of the folder as its test.
    parts = [metrics["splits"][name] for name in ("validation", "test")]
    right = sum(part["accuracy"] * part["images"] for part in parts)
    return Timing(finished.wall_ns / 1e9, right / sum(part["images"] for part in parts))


def time_notebook(data: str, weights: str, alpha: str, learning_rate: float, target: float) -> list[Timing]:
    """Run the notebook way once, epoch by epoch, until it reaches ``target`` or ends."""
    command = [sys.executable, "-m", "benchmarks.studies.training", _NOTEBOOK, data, weights, alpha]
    command += [str(_NOTEBOOK_EPOCHS), str(learning_rate)]
    timings: list[Timing] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("{"):
                found = json.loads(line)
                timings.append(Timing(found["seconds"], found["accuracy"]))
                if timings[-1].accuracy >= target - 1e-6 and len(timings) >= _EPOCHS:
                    process.terminate()
    return timings


def train_notebook(data: str, weights: str, alpha: float, epochs: int, learning_rate: float) -> None:
    """Train the head the notebook way, in the process of its own."""
    import keras
    import tensorflow as tf

    def read(part: str, *, shuffle: bool) -> object:
        found = keras.utils.image_dataset_from_directory(
            f"{data}/{part}", image_size=(_SIDE_PX, _SIDE_PX), batch_size=_BATCH_SIZE, shuffle=shuffle, verbose=False
        )
        return found.prefetch(tf.data.AUTOTUNE)

    def print_epoch(epoch: int, logs: dict[str, float]) -> None:
        line = {"epoch": epoch + 1, "seconds": time.perf_counter() - _STARTED_S, "accuracy": logs["val_accuracy"]}
        print(json.dumps(line), flush=True)

    keras.utils.set_random_seed(1)
    train, validation = read("train", shuffle=True), read("validation", shuffle=False)
    shape = (_SIDE_PX, _SIDE_PX, 3)
    base = keras.applications.MobileNetV2(input_shape=shape, alpha=alpha, include_top=False, weights=weights)
    base.trainable = False
    inputs = keras.Input(shape)
    x = keras.layers.RandomRotation(0.2)(keras.layers.RandomFlip("horizontal")(inputs))
    x = base(keras.layers.Rescaling(1 / 127.5, offset=-1)(x), training=False)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(x))
    model.compile(keras.optimizers.Adam(learning_rate), "binary_crossentropy", metrics=["accuracy"])
    model.evaluate(validation, verbose=0)
    callback = keras.callbacks.LambdaCallback(on_epoch_end=print_epoch)
    model.fit(train, validation_data=validation, epochs=epochs, verbose=0, callbacks=[callback])


def main(data: str, weights: str, alpha: str, runs: int) -> None:
    """Measure in turn and print a table."""
    print("| way | validation accuracy | to that accuracy | 10 epochs | edge-train is faster by |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for number in range(1, runs + 1):
        ours = time_edge_train(data, weights)
        print(f"| edge-train, run {number} | {ours.accuracy:.1%} | {ours.seconds:.1f} s | {ours.seconds:.1f} s | |")
        for rate in (1e-4, 1e-3):
            timings = time_notebook(data, weights, alpha, rate, ours.accuracy)
            reached = next((timing for timing in timings if timing.accuracy >= ours.accuracy - 1e-6), None)
            last = reached or timings[-1]
            best = max(timing.accuracy for timing in timings)
            when = f"{last.seconds:.1f} s" if reached else f"not in {len(timings)} epochs, {last.seconds:.1f} s"
            ratio = f"{'' if reached else '> '}{last.seconds / ours.seconds:.1f} x"
            whole = timings[min(_EPOCHS, len(timings)) - 1].seconds
            print(f"| notebook, Adam {rate:g} | {best:.1%} | {when} | {whole:.1f} s | {ratio} |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [_NOTEBOOK]:
        train_notebook(sys.argv[2], sys.argv[3], float(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
    else:
        main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 3)
