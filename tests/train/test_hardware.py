"""What a training runs on: the options, what is chosen from them, and that a seed decides every bit."""

import hashlib
import json
import os
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from support.paths import PROGRAMS
from support.programs import check_refusal, run, run_code
from support.training import curve
from train import hardware
from train.hardware import FLOAT32, MIXED_BFLOAT16, MIXED_FLOAT16, Cluster, Device, Hardware, HardwareRequest, Precision

TINY = ("--set", "cnn.filters=[8]", "--set", "head.dense_units=0", "--image-size", "32", "--batch-size", "8")


@given(
    st.integers(2, 65536).flatmap(lambda count: st.tuples(st.integers(0, count - 1), st.just(count))),
    st.sampled_from(["node1", "127.0.0.1", "gpu-3.example.org", "[::1]", "[fe80::2]"]),
    st.integers(1, 65535),
)
def test_a_process_of_several_is_read_as_written(place, host, port):
    index, count = place
    assert hardware.parse_cluster(f"{index}/{count}@{host}:{port}") == Cluster(index, count, f"{host}:{port}")


@given(st.text(max_size=40) | st.from_regex(r"\A[0-9]{1,3}/[0-9]{1,3}@[a-z:.\[\]]{0,5}:[0-9]{0,6}\Z"))
def test_anything_else_is_one_sentence(text):
    sentence = "--distributed: none"
    try:
        cluster = hardware.parse_cluster(text)
    except UsageError as error:
        sentence = str(error)
    else:
        assert 0 <= cluster.index < cluster.count >= 2
        assert text.endswith(f"@{cluster.address}")
    assert sentence.startswith("--distributed: ")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("on", "expected auto, off or INDEX/COUNT@HOST:PORT such as 0/2@node1:7777"),
        ("2/2@node1:7777", "expected an INDEX from 0 to 1, got 2"),
        ("0/1@node1:7777", "expected a COUNT of 2 to 65536 processes, got 1"),
        ("0/2@node1:0", "expected a PORT from 1 to 65535, got 0"),
        ("0/2@::1:7777", "an IPv6 address needs brackets"),
        ("0/2@node1:7777\n", "expected auto, off or"),
    ],
)
def test_a_process_that_cannot_be_says_why(text, message):
    with pytest.raises(UsageError, match="--distributed: ") as raised:
        hardware.parse_cluster(text)
    assert message in str(raised.value)


def test_options_become_a_request():
    assert hardware.parse_hardware("auto", "auto", "auto", deterministic=False) == HardwareRequest()
    request = hardware.parse_hardware("gpu", "mixed", "1/2@node1:7777", deterministic=True)
    assert request == HardwareRequest(Device.GPU, Precision.MIXED, True, Cluster(1, 2, "node1:7777"), True)
    assert not request.is_chief
    assert not hardware.parse_hardware("cpu", "auto", "off", deterministic=False).spread


def test_the_environment_is_set_before_the_backend_is_loaded_and_the_users_wins():
    environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_FLAGS": "--xla_dump_to=/tmp/x"}
    hardware.prepare_environment(HardwareRequest(Device.CPU, deterministic=True), environment)
    assert environment == {
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_dump_to=/tmp/x --xla_gpu_deterministic_ops=true",
    }
    environment = {}
    hardware.prepare_environment(HardwareRequest(), environment)
    assert environment == {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


@pytest.mark.parametrize(
    ("backend", "precision", "kind", "capability", "expected"),
    [
        ("tensorflow", Precision.AUTO, "cpu", (0, 0), FLOAT32),
        ("tensorflow", Precision.MIXED, "cpu", (0, 0), MIXED_BFLOAT16),
        ("tensorflow", Precision.AUTO, "gpu", (6, 1), FLOAT32),
        ("tensorflow", Precision.AUTO, "gpu", (7, 5), MIXED_FLOAT16),
        ("tensorflow", Precision.AUTO, "gpu", (9, 0), MIXED_FLOAT16),
        ("tensorflow", Precision.FLOAT32, "gpu", (9, 0), FLOAT32),
        ("jax", Precision.AUTO, "gpu", (7, 5), MIXED_FLOAT16),
        ("jax", Precision.AUTO, "gpu", (9, 0), MIXED_BFLOAT16),
        ("jax", Precision.AUTO, "gpu", (0, 0), FLOAT32),
        ("jax", Precision.MIXED, "gpu", (0, 0), MIXED_FLOAT16),
    ],
)
def test_mixed_precision_is_for_gpus_with_matrix_units(backend, precision, kind, capability, expected):
    assert hardware.choose_dtype_policy(backend, precision, kind, capability) == expected


def test_hardware_is_one_line():
    card = "NVIDIA H200"
    assert Hardware("gpu", (card,), FLOAT32, 0, 1, False).describe() == "NVIDIA H200, float32"
    several = Hardware("gpu", (card,) * 4, MIXED_BFLOAT16, 0, 2, False)
    assert several.describe() == "4 x NVIDIA H200, mixed precision (bfloat16), 2 processes"


def test_a_batch_must_be_divided_evenly():
    three = Hardware("gpu", ("GPU",) * 3, FLOAT32, 0, 1, False)
    three.check_batch_size(33)
    sentence = (
        "a batch of 32 images cannot be divided evenly among 3 devices; use --batch-size 30 or another multiple of 3"
    )
    with pytest.raises(UsageError, match=sentence):
        three.check_batch_size(32)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(UsageError, match="KERAS_BACKEND: expected tensorflow or jax, got 'torch'"):
        hardware.check_request(HardwareRequest())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(("--device", "gpu"), "sees no GPU here; check nvidia-smi", marks=pytest.mark.slow),
        (("--device", "tpu"), "'tpu' is not one of 'auto', 'cpu', 'gpu'"),
        (("--distributed", "0/2"), "expected auto, off or INDEX/COUNT@HOST:PORT"),
        (("--distributed", "0/2@localhost:7777"), "several processes need the JAX backend"),
    ],
)
def test_hardware_that_cannot_be_is_one_sentence(options, message, run_program, colored_images, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    out = tmp_path / "run"
    done = run_program("edge-train", "run", "--data", colored_images, "--out", out, *TINY, *options)
    check_refusal(done, 2, message)
    assert not list(tmp_path.iterdir())


def weights_digest(run):
    """Hash of the weights in ``model.keras``, whose other members hold dates."""
    import h5py

    digest, found = hashlib.sha256(), []
    with (
        zipfile.ZipFile(run / "model.keras") as archive,
        archive.open("model.weights.h5") as member,
        h5py.File(member, "r") as file,
    ):
        file.visititems(lambda name, item: found.append((name, item)) if isinstance(item, h5py.Dataset) else None)
        for name, item in sorted(found):
            digest.update(name.encode() + np.asarray(item).tobytes())
    assert found
    return digest.hexdigest()


@pytest.mark.slow
def test_a_seed_decides_every_bit(run_program, colored_images, tmp_path):
    """On a CPU without any option, with dropout, augmentation, mixup, shuffling and initialisation."""
    random = ["augment.rotation=0.1", "augment.brightness=0.1", "augment.mixup=0.2", "head.dropout=0.5"]
    options = [*TINY, *(part for setting in random for part in ("--set", setting)), "--epochs", "2"]
    first, second = tmp_path / "1", tmp_path / "2"
    for out in (first, second):
        done = run_program("edge-train", "run", "--data", colored_images, "--out", out, *options)
        assert done.returncode == 0, done.stderr
    assert curve(first) == curve(second)
    assert len(curve(first)) == 2
    assert weights_digest(first) == weights_digest(second)


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_model_trained_in_16_bits_is_saved_in_32(policy, colored_images, mobilenetv2_weights, tmp_path):
    """float16 is what GPUs get; here the choice is overruled, so that a CPU goes the same way."""
    script = (
        "import sys, train.hardware; policy = sys.argv.pop(1);"
        "train.hardware.choose_dtype_policy = lambda *_: policy; from train.cli import main; main()"
    )
    options = ["--recipe", "mobilenetv2", "--image-size", "32", "--batch-size", "16", "--epochs", "1"]
    options += ["--weights", str(mobilenetv2_weights), "--set", "finetune.epochs=1", "--set", "finetune.from_layer=150"]
    done = run_code(script, policy, "run", "--data", colored_images, *options, "--out", tmp_path / "run", check=False)
    assert done.returncode == 0, done.stderr
    assert f"mixed precision ({policy.removeprefix('mixed_')})" in done.stderr
    with zipfile.ZipFile(tmp_path / "run" / "model.keras") as archive:
        config = archive.read("config.json").decode()
    assert ("float16" in config, "float32" in config) == (False, True)
    assert [row["phase"] for row in curve(tmp_path / "run")] == ["head", "finetune"]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["splits"]["test"]["images"] > 0


@pytest.mark.slow
def test_jax_needs_no_tensorflow(colored_images, tmp_path):
    pytest.importorskip("jax")
    command = [sys.executable, PROGRAMS / "edge_train_without_tensorflow.py", "run", "--data", colored_images, *TINY]
    command += ["--epochs", "1", "--out", tmp_path / "run", "--also"]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = run(*command, "h5,weights", env=environment)
    assert done.returncode == 0, done.stderr
    assert {"model.keras", "model.h5", "model.weights.h5"} <= {path.name for path in (tmp_path / "run").iterdir()}
    refused = run(*command, "saved_model", env=environment)
    check_refusal(refused, 1, "edge-train run --also saved_model needs the package tensorflow")
