"""Distribute batches over devices and processes under TensorFlow and JAX, with the losses of one device.

Every batch is split evenly: device i takes the i-th part. So each batch must hold a multiple of the number of devices.
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
from train.backend import silenced
from train.hardware import Hardware

# What JAX says, in errors of several classes, when a message to another process fails.
_LOST_PEER = re.compile(r"gloo|nccl|UNAVAILABLE|heartbeat|connection|DEADLINE_EXCEEDED", re.IGNORECASE)


@dataclass(frozen=True)
class Shard:
    """What part of each batch this process feeds.

    Attributes:
        devices: Devices of all processes.
        index: Of this process.
        count: Number of processes; each has equally many devices.
    """

    devices: int = 1
    index: int = 0
    count: int = 1

    def filled(self, items: NDArray[np.intp]) -> NDArray[np.intp]:
        """Repeat items from the start until they can be divided evenly: intp [n] to intp [m], m >= n."""
        return np.resize(items, self.filled_count(len(items)))

    def filled_count(self, count: int) -> int:
        """How many ``count`` items become when they are filled up."""
        return -(-count // self.devices) * self.devices

    def part(self, count: int) -> slice:
        """Which of ``count`` filled items this process feeds."""
        share = count // self.count
        return slice(self.index * share, (self.index + 1) * share)


def current_shard() -> Shard:
    """The part of this process in the `scope` that is entered; outside of one, everything."""
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
    """Build, fit and predict inside of this: variables are copied to all devices, and steps run on all of them.

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
        # Batches give each process its part themselves, so Keras must not divide them again.
        devices = keras.distribution.list_devices(hardware.kind)
        distribution = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
        with _among_processes(hardware), distribution.scope():
            yield


@contextlib.contextmanager
def _among_processes(hardware: Hardware) -> Iterator[None]:
    """Say that another process has ended; and if this one fails, end at once, so that the others notice."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if hardware.process_count == 1 or not _LOST_PEER.search(str(error)):
            raise
        _end_without_the_others(EngineError.exit_code)
        raise EngineError(
            f"another of the {hardware.process_count} processes has ended or cannot be reached any more "
            f"({str(error).splitlines()[0][:200]}); start all of them again with --resume"
        ) from error
    except OutputError as error:
        if hardware.process_count > 1:
            _end_without_the_others(error.exit_code)
        raise


def _end_without_the_others(code: int) -> None:
    """Leave out what JAX does at exit: it waits for the other processes, and aborts when they do not come."""
    # What is registered last runs first.
    atexit.register(os._exit, code)


def gathered(model: Any) -> Any:
    """The same model, for `predict` in several processes: each of them gets the answers to all images."""
    if current_shard().count == 1:
        return model
    return keras.Model(model.inputs, _Gather()(model.outputs[0]))


def check_same_everywhere(text: str, what: str) -> None:
    """Compare a text between all processes, which also is where they wait for each other.

    Raises:
        UsageError: It differs; all processes raise.
    """
    shard = current_shard()
    if shard.count == 1:
        return
    from jax.experimental import multihost_utils

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    with silenced():  # the first exchange of all says how it is made
        digests = np.asarray(multihost_utils.process_allgather(digest))
    differing = [index for index in range(shard.count) if (digests[index] != digests[0]).any()]
    if differing:
        raise UsageError(
            f"process {differing[0]} has {what} than process 0; give every process the same command (apart from "
            "INDEX), the same images and the same --out on a disk that all of them share"
        )


class _Gather(keras.layers.Layer):
    """Bring the parts of a batch together again on every device."""

    def call(self, values: Any) -> Any:
        mesh = keras.distribution.distribution().device_mesh
        return keras.distribution.distribute_tensor(
            values, keras.distribution.TensorLayout([None] * len(values.shape), mesh)
        )
