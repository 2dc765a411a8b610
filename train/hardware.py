"""Requested and detected hardware of a training.

Nothing heavy is imported here; `train.backend` finds the devices and `train.distribution` spreads work over them.
"""

from __future__ import annotations

import enum
import re
from collections import Counter
from dataclasses import dataclass

from edge_runtime.errors import UsageError

FLOAT32, MIXED_BFLOAT16, MIXED_FLOAT16 = "float32", "mixed_bfloat16", "mixed_float16"
_MAX_PROCESSES = 65536
_CLUSTER = re.compile(r"([0-9]{1,6})/([0-9]{1,6})@([^\s@/,]{1,255}):(0|[1-9][0-9]{0,4})")


class Device(str, enum.Enum):
    """What computes; ``auto`` takes GPUs where there are any."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class Precision(str, enum.Enum):
    """How it computes; weights are float32 always. ``auto`` is mixed on GPUs with 16-bit matrix units."""

    AUTO = "auto"
    FLOAT32 = "float32"
    MIXED = "mixed"


@dataclass(frozen=True)
class Cluster:
    """This process among several that train one model together.

    Attributes:
        index: Of this process, from 0; process 0 is the chief.
        count: Number of processes, 2 or more.
        address: ``HOST:PORT`` where process 0 listens.
    """

    index: int
    count: int
    address: str


@dataclass(frozen=True)
class HardwareRequest:
    """What the command line asks for.

    Attributes:
        device: What computes.
        precision: How.
        spread: Whether all devices of a host are used, or one.
        cluster: This process among several, or None.
        deterministic: Whether a GPU must give the same bits in every run, at a price.
    """

    device: Device = Device.AUTO
    precision: Precision = Precision.AUTO
    spread: bool = True
    cluster: Cluster | None = None
    deterministic: bool = False

    @property
    def is_chief(self) -> bool:
        """Whether this process prints, and writes files."""
        return self.cluster is None or self.cluster.index == 0


@dataclass(frozen=True)
class Hardware:
    """What a training runs on.

    Attributes:
        kind: ``cpu`` or ``gpu``.
        devices: Name of each device that takes part, in all processes together.
        dtype_policy: Keras' name of the precision: ``float32``, ``mixed_bfloat16`` or ``mixed_float16``.
        process_index: Of this process, from 0.
        process_count: Number of processes.
        is_deterministic: Whether the same seed gives the same bits here again.
    """

    kind: str
    devices: tuple[str, ...]
    dtype_policy: str
    process_index: int
    process_count: int
    is_deterministic: bool

    def describe(self) -> str:
        """One line such as ``2 x NVIDIA H200, mixed precision (bfloat16)``."""
        names = [f"{count} x {name}" if count > 1 else name for name, count in Counter(self.devices).items()]
        precision = self.dtype_policy
        if precision != FLOAT32:
            precision = f"mixed precision ({precision.removeprefix('mixed_')})"
        processes = f", {self.process_count} processes" if self.process_count > 1 else ""
        return f"{' and '.join(names)}, {precision}{processes}"

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch that cannot be divided evenly.

        Raises:
            UsageError: It cannot.
        """
        count = len(self.devices)
        if batch_size % count:
            nearest = max(count, batch_size - batch_size % count)
            raise UsageError(
                f"a batch of {batch_size} images cannot be divided evenly among {count} devices; give "
                f"--batch-size {nearest} or another multiple of {count}, or --distributed off for one device"
            )


def parse_hardware(device: str, precision: str, distributed: str, *, deterministic: bool) -> HardwareRequest:
    """Read the options of the command line.

    Raises:
        UsageError: ``distributed`` is not ``auto``, ``off`` or ``INDEX/COUNT@HOST:PORT``.
    """
    cluster = None if distributed in ("auto", "off") else parse_cluster(distributed)
    return HardwareRequest(Device(device), Precision(precision), distributed != "off", cluster, deterministic)


def parse_cluster(text: str) -> Cluster:
    """Read ``INDEX/COUNT@HOST:PORT``, such as ``0/2@node1:7777``; an IPv6 address stands in brackets.

    Raises:
        UsageError: It is nothing of the kind.
    """
    found = _CLUSTER.fullmatch(text)
    if found is None:
        raise UsageError(
            "--distributed: expected auto, off or INDEX/COUNT@HOST:PORT such as 0/2@node1:7777 (the first of two "
            f"processes, the first of which listens on port 7777 of node1), got {text[:100]!r}"
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
        raise UsageError(f"--distributed: an IPv6 address stands in brackets, such as [::1]:7777, got {host}:{port}")
    return Cluster(index, count, f"{host}:{port}")
