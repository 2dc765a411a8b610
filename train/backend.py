"""Load Keras quietly and reproducibly, and detect its devices."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator, MutableMapping
from importlib import metadata

from edge_runtime.errors import EngineError, UsageError
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import collecting_later
from train.hardware import (
    FLOAT32,
    MIXED_BFLOAT16,
    MIXED_FLOAT16,
    Cluster,
    Device,
    Hardware,
    HardwareRequest,
    Precision,
)

# Reading the images for the first time may take one host longer than another.
_JOIN_S = 600


def backend_package() -> str:
    """Import name of the backend that Keras will use: ``$KERAS_BACKEND``, else TensorFlow."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def load_keras(seed: int) -> str:
    """Import Keras and seed Python, NumPy and the backend.

    Returns:
        Backend and version, such as ``tensorflow 2.21.0``.
    """
    # Each phase fits another model, which TensorFlow's Python side takes for the same one being traced again.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with silenced(), collecting_later():
        import keras

        # Under JAX too this imports TensorFlow where it is installed.
        keras.utils.set_random_seed(seed)
    name: str = keras.backend.backend()
    return f"{name} {metadata.version(name)}"


def check_request(request: HardwareRequest) -> None:
    """Refuse what the backend cannot do, before anything is loaded.

    Raises:
        UsageError: It cannot.
    """
    package = backend_package()
    if package not in ("tensorflow", "jax"):
        raise UsageError(f"KERAS_BACKEND: expected tensorflow or jax, got {package!r}")
    if request.cluster is not None and package != "jax":
        raise UsageError(
            "--distributed INDEX/COUNT@HOST:PORT: several processes need JAX, which Keras' TensorFlow backend cannot "
            "replace; install edgekit[jax] and set KERAS_BACKEND=jax"
        )


def prepare_environment(request: HardwareRequest, environment: MutableMapping[str, str] | None = None) -> None:
    """Set what TensorFlow and JAX read when they are imported; what the user has set stays.

    Args:
        request: What is asked for.
        environment: To change; None is the process' own.
    """
    environment = os.environ if environment is None else environment
    # Memory is taken as it is needed, so that two programs can share a card.
    environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if request.device is Device.CPU:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
        environment["JAX_PLATFORMS"] = "cpu"
    if request.deterministic:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def start(request: HardwareRequest, seed: int) -> tuple[str, Hardware]:
    """Load Keras for the devices that are asked for, join the other processes, and set the precision.

    Returns:
        Backend and version, such as ``tensorflow 2.21.0``, and what was found.

    Raises:
        EngineError: The other processes cannot be reached.
        UsageError: There is no such device, or the backend cannot do it.
    """
    check_request(request)
    prepare_environment(request)
    backend = load_keras(seed)
    import keras

    if request.cluster is not None:
        _join(request.cluster)
    kind, devices, capability = _devices()
    if request.device is Device.GPU and kind != "gpu":
        raise UsageError(f"--device gpu: {backend} sees no GPU here; {_gpu_advice()}, or leave --device out")
    if not request.spread:
        devices = devices[:1]
    policy = choose_dtype_policy(backend_package(), request.precision, kind, capability)
    keras.config.set_dtype_policy(policy)
    if request.deterministic and kind == "gpu" and backend_package() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    index, count = (request.cluster.index, request.cluster.count) if request.cluster else (0, 1)
    return backend, Hardware(kind, devices, policy, index, count, request.deterministic or kind == "cpu")


def choose_dtype_policy(backend: str, precision: Precision, kind: str, capability: tuple[int, int]) -> str:
    """Keras' name of the precision.

    bfloat16 has the range of float32 and needs no loss scaling, so it is taken where the GPU has it (compute capability
    8.0) and everything is compiled by XLA, under JAX. Under TensorFlow it is float16, whose cuDNN kernels are older and
    complete, depthwise convolutions included; Keras scales the loss then. NVIDIA GPUs multiply float16 matrices in
    units of their own from capability 7.0 on.
    """
    if precision is Precision.FLOAT32 or (precision is Precision.AUTO and capability < (7, 0)):
        return FLOAT32
    if kind == "cpu" or (backend == "jax" and capability >= (8, 0)):
        return MIXED_BFLOAT16
    return MIXED_FLOAT16


def jit_compile() -> bool | str:
    """What Keras' ``jit_compile`` should be: XLA everywhere but for TensorFlow on a CPU.

    There, processor seconds for an epoch of cnn-small on 3,000 images were 8.8 without XLA and 11.3 with it, and 18
    more for compiling; for fine-tuning a MobileNetV2 (alpha 0.35, 160 px) 5.0 and 5.2 for 600 images.
    """
    if backend_package() != "tensorflow":
        return "auto"
    import tensorflow as tf

    return "auto" if tf.config.list_logical_devices("GPU") else False


def _join(cluster: Cluster) -> None:
    """Do what `keras.distribution.initialize` does, with settings that it does not take."""
    import jax

    try:
        with silenced():
            jax.distributed.initialize(
                cluster.address,
                cluster.count,
                cluster.index,
                # Otherwise JAX gives a process one GPU where it finds SLURM's variables, and all of them elsewhere.
                cluster_detection_method="deactivate",
                initialization_timeout=_JOIN_S,
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            f"process {cluster.index} of {cluster.count} cannot join the others at {cluster.address} "
            f"({str(error).splitlines()[0]}); start all of them with the same COUNT@HOST:PORT, process 0 on HOST"
        ) from error


def _devices() -> tuple[str, tuple[str, ...], tuple[int, int]]:
    """Kind, names (of all processes), and the lowest compute capability of NVIDIA GPUs, (0, 0) for others."""
    if backend_package() == "jax":
        import jax

        with silenced():
            found = jax.devices()
        kind = "gpu" if found[0].platform in ("gpu", "cuda", "rocm") else "cpu"
        if kind == "cpu":
            return kind, (cpu_model(),) * len(found), (0, 0)
        capabilities = [_capability(getattr(device, "compute_capability", "")) for device in found]
        return kind, tuple(device.device_kind for device in found), min(capabilities)
    import tensorflow as tf

    with silenced():
        gpus = tf.config.list_logical_devices("GPU")
    if not gpus:
        return "cpu", (cpu_model(),) * len(tf.config.list_logical_devices("CPU")), (0, 0)
    details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
    names = tuple(str(entry.get("device_name", "GPU")) for entry in details)
    return "gpu", names, min(entry.get("compute_capability") or (0, 0) for entry in details)


def _capability(text: str) -> tuple[int, int]:
    """``9.0`` to (9, 0); anything else, an AMD architecture for example, to (0, 0)."""
    major, _, minor = str(text).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _gpu_advice() -> str:
    extra = "jax[cuda12]" if backend_package() == "jax" else "tensorflow[and-cuda]"
    return f"check nvidia-smi and install the driver and pip install '{extra}'"


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hold back what native code writes to standard output and error; show it on standard error if the block fails.

    TensorFlow's start-up lines ("Could not find cuda drivers") and Gloo's obey no environment variable.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = {descriptor: os.dup(descriptor) for descriptor in (1, 2)}
    with tempfile.TemporaryFile() as held_back:
        for descriptor in saved:
            os.dup2(held_back.fileno(), descriptor)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(saved[2], held_back.read())
            raise
        finally:
            for descriptor, original in saved.items():
                os.dup2(original, descriptor)
                os.close(original)
