"""Requested and detected hardware of a training, and the backend of Keras that runs on it.

Keras and its backends are imported inside functions only. `train.distribution` distributes batches over the devices.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from importlib import metadata

from edge_runtime.errors import EngineError, UsageError
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import collecting_later

FLOAT32, MIXED_BFLOAT16, MIXED_FLOAT16 = "float32", "mixed_bfloat16", "mixed_float16"
_MAX_PROCESSES = 65536
# Reading the images for the first time may take one host longer than another.
_JOIN_S = 600
_CLUSTER = re.compile(r"([0-9]{1,6})/([0-9]{1,6})@([^\s@/,]{1,255}):(0|[1-9][0-9]{0,4})")


class Device(str, enum.Enum):
    """Device to train on; ``auto`` prefers GPUs."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class Precision(str, enum.Enum):
    """Precision of the computation; weights stay float32. ``auto`` is mixed on GPUs with 16-bit matrix units."""

    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED = "mixed"


@dataclass(frozen=True)
class Cluster:
    """One process of several that train one model together.

    Attributes:
        index: Index of this process, from 0; process 0 is the chief.
        count: Number of processes, 2 or more.
        address: ``HOST:PORT`` on which process 0 listens.
    """

    index: int
    count: int
    address: str


@dataclass(frozen=True)
class HardwareRequest:
    """Devices and precision requested on the command line.

    Attributes:
        device: Kind of device to train on.
        precision: Precision of the computation.
        spread: True to use all devices of the host instead of one.
        cluster: This process among several, or None.
        deterministic: True for bit-identical results on a GPU, which is slower.
    """

    device: Device = Device.AUTO
    precision: Precision = Precision.AUTO
    spread: bool = True
    cluster: Cluster | None = None
    deterministic: bool = False

    @property
    def is_chief(self) -> bool:
        """True if this process prints and writes files."""
        return self.cluster is None or self.cluster.index == 0


@dataclass(frozen=True)
class Hardware:
    """Detected devices and precision of a training.

    Attributes:
        kind: ``cpu`` or ``gpu``.
        devices: Name of each device used, over all processes.
        dtype_policy: Keras' name of the precision: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
        process_index: Index of this process, from 0.
        process_count: Number of processes.
        is_deterministic: True if the same seed gives bit-identical results.
    """

    kind: str
    devices: tuple[str, ...]
    dtype_policy: str
    process_index: int
    process_count: int
    is_deterministic: bool

    def describe(self) -> str:
        """Describe the hardware in one line, such as ``2 x NVIDIA H200, mixed precision (bfloat16)``."""
        names = [f"{count} x {name}" if count > 1 else name for name, count in Counter(self.devices).items()]
        precision = self.dtype_policy
        if precision != FLOAT32:
            precision = f"mixed precision ({precision.removeprefix('mixed_')})"
        processes = f", {self.process_count} processes" if self.process_count > 1 else ""
        return f"{' and '.join(names)}, {precision}{processes}"

    def check_batch_size(self, batch_size: int) -> None:
        """Check that a batch divides evenly among the devices.

        Raises:
            UsageError: The batch size is not a multiple of the number of devices.
        """
        count = len(self.devices)
        if batch_size % count:
            nearest = max(count, batch_size - batch_size % count)
            raise UsageError(
                f"a batch of {batch_size} images cannot be divided evenly among {count} devices; use "
                f"--batch-size {nearest} or another multiple of {count}, or --distributed off for one device"
            )


def parse_hardware(device: str, precision: str, distributed: str, *, deterministic: bool) -> HardwareRequest:
    """Parse the hardware options of the command line.

    Raises:
        UsageError: ``distributed`` is not ``auto``, ``off`` or ``INDEX/COUNT@HOST:PORT``.
    """
    cluster = None if distributed in ("auto", "off") else parse_cluster(distributed)
    return HardwareRequest(Device(device), Precision(precision), distributed != "off", cluster, deterministic)


def parse_cluster(text: str) -> Cluster:
    """Parse ``INDEX/COUNT@HOST:PORT``, such as ``0/2@node1:7777``; an IPv6 address needs brackets.

    Raises:
        UsageError: The text has another form or a number is out of range.
    """
    found = _CLUSTER.fullmatch(text)
    if found is None:
        raise UsageError(
            "--distributed: expected auto, off or INDEX/COUNT@HOST:PORT such as 0/2@node1:7777 (process 0 of 2; "
            f"process 0 listens on port 7777 of node1), got {text[:100]!r}"
        )
    host = found[3]
    index, count, port = int(found[1]), int(found[2]), int(found[4])
    if not 2 <= count <= _MAX_PROCESSES:
        raise UsageError(f"--distributed: expected a COUNT of 2 to {_MAX_PROCESSES} processes, got {count}")
    if index >= count:
        raise UsageError(f"--distributed: expected an INDEX from 0 to {count - 1}, got {index}")
    if not 1 <= port <= 65535:
        raise UsageError(f"--distributed: expected a PORT from 1 to 65535, got {port}")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise UsageError(f"--distributed: an IPv6 address needs brackets, such as [::1]:7777, got {host}:{port}")
    return Cluster(index, count, f"{host}:{port}")


def backend_package() -> str:
    """Return the import name of the Keras backend: ``$KERAS_BACKEND``, else TensorFlow."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def load_keras(seed: int) -> str:
    """Import Keras and seed Python, NumPy and the backend.

    Returns:
        Backend and version, such as ``tensorflow 2.21.0``.
    """
    # Each phase fits another model, for which TensorFlow would warn of repeated retracing.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with silenced(), collecting_later():
        import keras

        # Under JAX too this imports TensorFlow where it is installed.
        keras.utils.set_random_seed(seed)
    name: str = keras.backend.backend()
    return f"{name} {metadata.version(name)}"


def check_request(request: HardwareRequest) -> None:
    """Check that the backend supports the request, before anything is imported.

    Raises:
        UsageError: Unknown backend, or several processes without JAX.
    """
    package = backend_package()
    if package not in ("tensorflow", "jax"):
        raise UsageError(f"KERAS_BACKEND: expected tensorflow or jax, got {package!r}")
    if request.cluster is not None and package != "jax":
        raise UsageError(
            "--distributed INDEX/COUNT@HOST:PORT: several processes need the JAX backend; install edgekit[jax] and "
            "set KERAS_BACKEND=jax"
        )


def prepare_environment(request: HardwareRequest, environment: MutableMapping[str, str] | None = None) -> None:
    """Set the environment variables that TensorFlow and JAX read at import; values set by the user stay.

    Args:
        request: Requested device and determinism.
        environment: Variables to change; None for ``os.environ``.
    """
    environment = os.environ if environment is None else environment
    # Allocate GPU memory on demand, so that two programs can share a card.
    environment.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if request.device is Device.CPU:
        environment["CUDA_VISIBLE_DEVICES"] = "-1"
        environment["JAX_PLATFORMS"] = "cpu"
    if request.deterministic:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()


def start(request: HardwareRequest, seed: int) -> tuple[str, Hardware]:
    """Load Keras for the requested devices, join the other processes, and set the precision.

    Returns:
        Backend and version, such as ``tensorflow 2.21.0``, and the detected hardware.

    Raises:
        EngineError: The other processes cannot be reached.
        UsageError: No such device, or the backend does not support the request.
    """
    check_request(request)
    prepare_environment(request)
    backend = load_keras(seed)
    import keras

    if request.cluster is not None:
        _join(request.cluster)
    kind, devices, capability = _devices()
    if request.device is Device.GPU and kind != "gpu":
        extra = "jax[cuda12]" if backend_package() == "jax" else "tensorflow[and-cuda]"
        advice = f"check nvidia-smi and install the driver and pip install '{extra}'"
        raise UsageError(f"--device gpu: {backend} sees no GPU here; {advice}, or omit --device")
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
    """Choose the dtype policy of Keras.

    bfloat16 has the range of float32 and needs no loss scaling, so JAX uses it where the GPU supports it (compute
    capability 8.0). TensorFlow uses float16, for which cuDNN has kernels of all layers, depthwise convolutions
    included; Keras scales the loss. NVIDIA GPUs have float16 matrix units from capability 7.0 on.

    Args:
        backend: ``tensorflow`` or ``jax``.
        precision: Precision requested by the user.
        kind: ``cpu`` or ``gpu``.
        capability: Lowest compute capability of the GPUs, (0, 0) if unknown.

    Returns:
        ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
    """
    if precision is Precision.FLOAT32 or (precision is Precision.AUTO and capability < (7, 0)):
        return FLOAT32
    if kind == "cpu" or (backend == "jax" and capability >= (8, 0)):
        return MIXED_BFLOAT16
    return MIXED_FLOAT16


def jit_compile() -> bool | str:
    """Choose the argument ``jit_compile`` of Keras: XLA except for TensorFlow on a CPU.

    Measured there in CPU seconds: an epoch of cnn-small on 3,000 images took 8.8 without XLA and 11.3 with it, plus 18
    for compilation; fine-tuning a MobileNetV2 (alpha 0.35, 160 px) on 600 images took 5.0 and 5.2.
    """
    if backend_package() != "tensorflow":
        return "auto"
    import tensorflow as tf

    return "auto" if tf.config.list_logical_devices("GPU") else False


def _join(cluster: Cluster) -> None:
    """Initialise JAX as `keras.distribution.initialize` does, with settings that Keras does not expose."""
    import jax

    try:
        with silenced():
            jax.distributed.initialize(
                cluster.address,
                cluster.count,
                cluster.index,
                # With detection JAX would give a process one GPU under SLURM and all GPUs elsewhere.
                cluster_detection_method="deactivate",
                initialization_timeout=_JOIN_S,
            )
    except (RuntimeError, ValueError, OSError) as error:
        raise EngineError(
            f"process {cluster.index} of {cluster.count} cannot join the others at {cluster.address} "
            f"({str(error).splitlines()[0]}); start all of them with the same COUNT@HOST:PORT, process 0 on HOST"
        ) from error


def _devices() -> tuple[str, tuple[str, ...], tuple[int, int]]:
    """Detect kind and names of the devices of all processes, and the lowest compute capability; (0, 0) if unknown."""
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
    """Parse ``9.0`` to (9, 0), and anything else, such as an AMD architecture, to (0, 0)."""
    major, _, minor = str(text).partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Capture the output of native code in a block; write it to standard error only if the block fails.

    No environment variable suppresses the start-up lines of TensorFlow ("Could not find cuda drivers") and Gloo.
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
