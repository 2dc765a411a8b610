"""Distribute batches over devices and processes under TensorFlow and JAX; losses equal those of one device.

Every batch is split evenly: device i takes the i-th part, so the batch size is a multiple of the number of devices.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import EngineError, OutputError, UsageError
from train.hardware import Hardware, silenced

# JAX reports a failed message to another process with errors of several classes.
_LOST_PEER = re.compile(r"gloo|nccl|UNAVAILABLE|heartbeat|connection|DEADLINE_EXCEEDED", re.IGNORECASE)


@dataclass(frozen=True)
class Shard:
    """Part of each batch that this process feeds.

    Attributes:
        devices: Number of devices of all processes.
        index: Index of this process, from 0.
        count: Number of processes; each has the same number of devices.
    """

    devices: int = 1
    index: int = 0
    count: int = 1

    def filled(self, items: NDArray[np.intp]) -> NDArray[np.intp]:
        """Repeat items from the start until they divide evenly among the devices: intp [n] to intp [m], m >= n."""
        return np.resize(items, self.filled_count(len(items)))

    def filled_count(self, count: int) -> int:
        """Round ``count`` up to a multiple of the number of devices."""
        return -(-count // self.devices) * self.devices

    def part(self, count: int) -> slice:
        """Select the items of this process among ``count`` filled ones."""
        share = count // self.count
        return slice(self.index * share, (self.index + 1) * share)


def current_shard() -> Shard:
    """Return the part of this process in the current `scope`; outside of one, the whole batch."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return Shard(tf.distribute.get_strategy().num_replicas_in_sync)
    distribution = keras.distribution.distribution()
    if backend != "jax" or distribution is None:
        return Shard()
    import jax

    return Shard(distribution.device_mesh.devices.size, jax.process_index(), jax.process_count())


@contextlib.contextmanager
def scope(hardware: Hardware) -> Iterator[None]:
    """Enter the scope in which models are built, fitted and used: variables are mirrored on all devices.

    Raises:
        EngineError: Another process has ended.
    """
    if len(hardware.devices) == 1:
        yield
    elif keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        names = [device.name for device in tf.config.list_logical_devices(hardware.kind.upper())]
        with tf.distribute.MirroredStrategy(names).scope():
            yield
    else:
        # `Batches` yields only the part of this process, so Keras must not shard again.
        devices = keras.distribution.list_devices(hardware.kind)
        distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        with _among_processes(hardware), distribution.scope():
            yield


@contextlib.contextmanager
def _among_processes(hardware: Hardware) -> Iterator[None]:
    """Report the loss of another process; if this one fails, exit at once so that the others notice."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if hardware.process_count == 1 or not _LOST_PEER.search(str(error)):
            raise
        _end_without_the_others(EngineError.exit_code)
        raise EngineError(
            f"another of the {hardware.process_count} processes has ended or is unreachable "
            f"({str(error).splitlines()[0][:200]}); start all of them again with --resume"
        ) from error
    except OutputError as error:
        if hardware.process_count > 1:
            _end_without_the_others(error.exit_code)
        raise


def _end_without_the_others(code: int) -> None:
    """Skip the exit handlers of JAX, which wait for the other processes and then abort."""
    # Handlers run in reverse order of registration.
    atexit.register(os._exit, code)


def gathered(model: Any) -> Any:
    """Wrap a model so that `predict` returns the outputs of all images in every process."""
    if current_shard().count == 1:
        return model
    return keras.Model(model.inputs, _Gather()(model.outputs[0]))


def check_same_everywhere(text: str, what: str) -> None:
    """Compare a text between all processes; this also synchronises them.

    Raises:
        UsageError: The text differs; raised in all processes.
    """
    shard = current_shard()
    if shard.count == 1:
        return
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    with silenced():  # Gloo logs its first connection
        digests = np.asarray(multihost_utils.process_allgather(digest))
    differing = [index for index in range(shard.count) if (digests[index] != digests[0]).any()]
    if differing:
        raise UsageError(
            f"process {differing[0]} has {what} than process 0; start every process with the same command (apart from "
            "INDEX), the same images and the same --out on a disk that all of them share"
        )


class _Gather(keras.layers.Layer):
    """Gather the parts of a batch on every device."""

    def call(self, values: Any) -> Any:
        mesh = keras.distribution.distribution().device_mesh
        return keras.distribution.distribute_tensor(
            values, keras.distribution.TensorLayout([None] * len(values.shape), mesh)
        )
