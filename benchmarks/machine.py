"""The machine and software that figures belong to; nothing heavy is imported to find out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.cores import core_count, cpu_model

_PACKAGES = (
    "edgekit",
    "numpy",
    "opencv-python-headless",
    "ai-edge-litert",
    "tflite-runtime",
    "onnxruntime",
    "tensorflow",
    "keras",
)


@dataclass(frozen=True)
class MachineRecord:
    """Where a report was made.

    Attributes:
        cpu_model: As the kernel names it, or the architecture.
        architecture: Such as ``x86_64`` or ``aarch64``.
        cores_usable: Processors that this process may use.
        cores_total: Processors of the machine.
        governor: Frequency governor of the first core, or None where it cannot be read.
        memory_bytes: Memory of the machine, or None where it cannot be read.
        load_average_1min: Load of the minute before.
        kernel: Such as ``Linux 6.1.0``.
        python: Version.
        packages: Version of each installed package that bears on the figures.
    """

    cpu_model: str
    architecture: str
    cores_usable: int
    cores_total: int
    governor: str | None
    memory_bytes: int | None
    load_average_1min: float
    kernel: str
    python: str
    packages: dict[str, str]


def describe_machine(root: Path = Path("/")) -> MachineRecord:
    """Read the record; ``root`` is where ``proc`` and ``sys`` lie."""
    return MachineRecord(
        cpu_model=cpu_model(root),
        architecture=platform.machine(),
        cores_usable=core_count(),
        cores_total=os.cpu_count() or 1,
        governor=_read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        memory_bytes=_memory_bytes(root),
        load_average_1min=round(os.getloadavg()[0], 2),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        packages=_package_versions(),
    )


def _memory_bytes(root: Path) -> int | None:
    total = dict(_fields(root / "proc/meminfo")).get("MemTotal")
    return int(total.split()[0]) * 1024 if total else None


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _fields(path: Path) -> list[tuple[str, str]]:
    lines = (_read(path) or "").splitlines()
    pairs = [line.partition(":") for line in lines if ":" in line]
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None
