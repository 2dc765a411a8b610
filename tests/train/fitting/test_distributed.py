"""Several devices and several processes reach the losses of one."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.http import free_port
from support.paths import PROGRAMS
from support.programs import run_code
from train.hardware import load_keras

SETTINGS = ("cnn.filters=[8]", "head.dense_units=0", "loss.class_weights=balanced", "augment.mixup=0.2")


def options(*settings):
    tiny = ("--image-size", "32", "--batch-size", "16", "--epochs", "2", "--seed", "3")
    return [*tiny, *(part for setting in (*SETTINGS, *settings) for part in ("--set", setting))]


def losses(run):
    """Losses and accuracies of all epochs: float64 [epochs, 4]."""
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    with (run / "history.csv").open() as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


@pytest.fixture(scope="module")
def odd_images(colored_images, tmp_path_factory):
    """Two classes in three parts, of which validation holds 9 images: two devices cannot divide them."""
    folder = tmp_path_factory.mktemp("odd") / "photos"
    for label in ("blue", "red"):
        files = iter(sorted((colored_images / label).iterdir()))
        for part, count in (("train", 20), ("validation", 5), ("test", 3)):
            (folder / part / label).mkdir(parents=True)
            for _ in range(count - (part == "validation" and label == "red")):
                shutil.copy(next(files), folder / part / label)
    return folder


# Keras loads TensorFlow under JAX too where it is installed, which takes longer than all that is tested here.
WITHOUT_TENSORFLOW = (sys.executable, PROGRAMS / "edge_train_without_tensorflow.py")
AS_INSTALLED = (Path(sys.executable).with_name("edge-train"),)


def start_jax(data, out, *arguments, program=WITHOUT_TENSORFLOW, **more):
    command = [*program, "run", "--data", data, "--out", out, *options(), *arguments]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **more}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def start_two(first, second, out, *arguments):
    """Start two processes of one training, each with its images."""
    address = f"127.0.0.1:{free_port()}"
    places = [(data, f"{index}/2@{address}") for index, data in enumerate((first, second))]
    return [start_jax(data, out, *arguments, "--distributed", place) for data, place in places]


def finish(process, timeout_s=300):
    try:
        output, errors = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return process.returncode, output, errors


@pytest.fixture(scope="module")
def one_process(odd_images, tmp_path_factory):
    """What one process with one device makes of it under JAX."""
    pytest.importorskip("jax")
    run = tmp_path_factory.mktemp("one") / "run"
    code, _, errors = finish(start_jax(odd_images, run, program=AS_INSTALLED))
    assert code == 0, errors
    return run


@pytest.mark.slow
def test_two_processes_reach_the_losses_of_one(one_process, odd_images, tmp_path):
    processes = start_two(odd_images, odd_images, tmp_path / "run")
    (code, output, errors), (other_code, other_output, other_errors) = map(finish, processes)
    assert (code, other_code) == (0, 0), errors + other_errors
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(one_process), rtol=1e-5)
    assert ("2 processes" in errors, "run directory" in output) == (True, True)
    assert (other_output, other_errors) == ("", ""), "only the first process speaks"
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_two_devices_of_one_process_reach_the_losses_of_one_under_jax(one_process, odd_images, tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    code, _, errors = finish(start_jax(odd_images, tmp_path / "run", XLA_FLAGS=flags))
    assert code == 0, errors
    assert "training on 2 x " in errors
    np.testing.assert_allclose(losses(tmp_path / "run"), losses(one_process), rtol=1e-5)


MIRRORED = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * int(sys.argv.pop(1)))
from train.cli import main
main()
"""


@pytest.mark.slow
def test_two_devices_of_one_process_reach_the_losses_of_one_under_tensorflow(odd_images, tmp_path):
    """Without dropout and batch normalisation, which `MirroredStrategy` computes for each device by itself."""
    settings = ("cnn.batch_norm=false", "head.dropout=0", "augment.mirror=false")
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    for devices in ("1", "2"):
        arguments = ("run", "--data", odd_images, "--out", tmp_path / devices, *options(*settings))
        done = run_code(MIRRORED, devices, *arguments, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    assert "training on 2 x " in done.stderr
    np.testing.assert_allclose(losses(tmp_path / "2"), losses(tmp_path / "1"), rtol=1e-5)


@pytest.mark.slow
def test_processes_with_other_images_are_refused(odd_images, colored_images, tmp_path):
    pytest.importorskip("jax")
    for code, _, errors in [finish(process) for process in start_two(odd_images, colored_images, tmp_path / "run")]:
        assert code == 2, errors
        assert "error: process 1 has another recipe, data or saved state than process 0; start every process" in errors
        assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_death_of_one_process_ends_the_other(killed, odd_images, tmp_path):
    pytest.importorskip("jax")
    processes = start_two(odd_images, odd_images, tmp_path / "run", "--epochs", "10000")
    assert processes[0].stderr is not None
    for line in processes[0].stderr:
        if line.startswith("epoch 1/"):
            break
    processes[killed].send_signal(signal.SIGKILL)
    assert finish(processes[1 - killed], timeout_s=180)[0] != 0
    assert finish(processes[killed])[0] == -signal.SIGKILL
    assert not (tmp_path / "run").exists()


def batches(shard, count, size, **more):
    """Batches of ``count`` items as the process of that shard makes them; item i is the number i."""
    load_keras(0)
    from train.fitting.pipeline import Batches

    values = np.arange(count, dtype=np.float32)[:, np.newaxis]
    with mock.patch("train.fitting.pipeline.current_shard", return_value=shard):
        return Batches(values, values, size, **more)


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_the_parts_of_all_processes_are_the_whole(count, per_device, processes, devices_each, is_training):
    from train.distribution import Shard

    devices, seed = processes * devices_each, 5 if is_training else None
    size = per_device * devices
    alone = batches(Shard(), count, size, seed=seed, mixup=0.0)
    parts = [batches(Shard(devices, index, processes), count, size, seed=seed) for index in range(processes)]
    assert {len(part) for part in parts} == {len(alone)}
    total = weighted = 0.0
    for step in range(len(alone)):
        made = [part[step] for part in parts]
        assert len({len(batch[0]) for batch in made}) == 1, "every process has as much to do"
        assert len(made[0][0]) % devices_each == 0
        together = np.concatenate([batch[0] for batch in made])[:, 0]
        expected = alone[step][0][:, 0]
        np.testing.assert_array_equal(together[: len(expected)], expected)
        assert set(together) == set(expected)
        weights = np.concatenate([batch[2] if len(batch) == 3 else np.ones(len(batch[0])) for batch in made])
        # As Keras does: the mean over a batch, then the mean over batches by their size.
        total += len(together)
        weighted += float((weights * together).sum())
        if not is_training:
            targets = np.concatenate([batch[1] for batch in made])[:, 0]
            np.testing.assert_array_equal(targets[len(expected) :], -1.0)
    if not is_training:
        assert weighted / total == pytest.approx(np.arange(count).mean(), rel=1e-5)


def test_mixup_across_processes_is_that_of_one():
    from train.distribution import Shard

    alone = batches(Shard(), 16, 8, seed=1, mixup=0.4)
    parts = [batches(Shard(4, index, 2), 16, 8, seed=1, mixup=0.4) for index in (0, 1)]
    for step in range(2):
        together = np.concatenate([part[step][0] for part in parts])
        np.testing.assert_array_equal(together, alone[step][0])


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_what_fills_a_batch_up_counts_neither_in_loss_nor_in_accuracy(kind):
    load_keras(0)
    import keras

    from train.distribution import Shard
    from train.fitting.phases import compile_model, target_rows
    from train.fitting.pipeline import Batches
    from train.recipe import load_recipe, override

    recipe = override(load_recipe("cnn-small"), {"head.kind": kind, "loss.label_smoothing": 0.1})
    rng = np.random.default_rng(0)
    features = rng.normal(size=(9, 4)).astype(np.float32)
    targets = target_rows(rng.integers(0, 2, 9), 2, recipe.head)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(targets.shape[1], activation=kind)])
    compile_model(model, recipe, recipe.optimizer, 1)
    figures = []
    for shard in (Shard(), Shard(4)):
        with mock.patch("train.fitting.pipeline.current_shard", return_value=shard):
            figures.append(model.evaluate(Batches(features, targets, 4), verbose=0)[:2])
    np.testing.assert_allclose(figures[1], figures[0], rtol=1e-6)
