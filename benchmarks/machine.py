"""Description of the machine, its software and the git revision of the checkout."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from edge_runtime.platform.board import cpu_model, governor, memory_info, read_text
from edge_runtime.platform.process import core_count

_GIT_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Revision:
    """A commit, in hexadecimal, and True if tracked files were altered since; None if git does not tell."""

    commit: str | None
    is_dirty: bool | None


def revision_of(folder: Path) -> Revision | None:
    """Read the revision of a checkout whose top is ``folder``, without writing to it; None if git tells none.

    A repository further up does not count: an installed package may lie in a virtual environment inside another one.
    """
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None
    commit = _git(git, folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changes = _git(git, folder, "status", "--porcelain", "--untracked-files=no")
    return Revision(commit, None if changes is None else bool(changes))


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    # A hook or an outer git sets GIT_DIR to another repository; without the lock option status would write the index.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [git, "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            env={**inherited, "GIT_OPTIONAL_LOCKS": "0"}, timeout=_GIT_TIMEOUT_S,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


_PACKAGES = (
    *("edgekit", "numpy"),
    *("opencv-python-headless", "opencv-contrib-python-headless", "opencv-python", "opencv-contrib-python"),
    *("ai-edge-litert", "tflite-runtime", "onnxruntime", "tensorflow", "keras"),
)
# Flags by which XNNPACK, ONNX Runtime and oneDNN choose their kernels, as Linux names them on x86 and on Arm.
_SIMD = (
    *("avx", "f16c", "fma", "avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("neon", "asimd", "asimdhp", "asimddp", "sve", "i8mm", "bf16"),
)
_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "GOMP_CPU_AFFINITY", "KERAS_BACKEND", "KMP_AFFINITY", "KMP_BLOCKTIME", "LD_PRELOAD"),
    *("MALLOC_ARENA_MAX", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_WAIT_POLICY"),
    *("OPENBLAS_NUM_THREADS", "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTEROP_THREADS", "TF_NUM_INTRAOP_THREADS"),
    *("TF_XLA_FLAGS", "XLA_FLAGS"),
)
_LONGEST_VALUE = 200
_VIRTUAL = re.compile("kvm|qemu|virtual|vmware|bochs|xen|amazon ec2|google compute", re.IGNORECASE)


@dataclass(frozen=True)
class MachineRecord:
    """Machine and software of a report."""

    cpu_model: Annotated[str, "CPU name from the kernel, or the architecture."]
    architecture: Annotated[str, "Architecture such as ``x86_64`` or ``aarch64``."]
    simd: Annotated[
        tuple[str, ...],
        "Vector instructions that the runtimes choose by, named as in Linux: ``avx512_vnni``, ``asimddp`` (Arm's dot "
        "product), ``i8mm`` ...",
    ]
    virtualised: Annotated[bool | None, "True for a virtual machine; None if the kernel does not tell."]
    cores_usable: Annotated[int, "Cores that this process may use."]
    cores_total: Annotated[int, "Cores of the machine."]
    governor: Annotated[str | None, "Frequency governor of the first core, or None if unknown."]
    memory_bytes: Annotated[int | None, "Memory of the machine, or None if unknown."]
    load_average_1min: Annotated[float, "Load average of the minute before."]
    os_name: Annotated[str | None, "Operating system such as ``Debian GNU/Linux 12 (bookworm)``, or None."]
    kernel: Annotated[str, "Kernel such as ``Linux 6.1.0``."]
    libc: Annotated[str | None, "C library such as ``glibc 2.36``, or None."]
    python: Annotated[str, "Version of Python."]
    packages: Annotated[dict[str, str], "Version of each installed package that affects the figures."]
    environment: Annotated[dict[str, str], "Environment variables of a fixed list that are set and affect the figures."]
    git_revision: Annotated[str | None, "Commit of the checkout that edgekit runs from; None for an installed package."]
    git_dirty: Annotated[bool | None, "True if files of that checkout were altered since; None as above."]


SPEED_FIELDS = {
    "cpu_model": "processor",
    "architecture": "architecture",
    "simd": "vector instructions",
    "virtualised": "virtual machine",
    "cores_usable": "number of usable cores",
    "governor": "frequency governor",
}
"""Names in sentences of the fields that determine the speed of a machine."""
SOFTWARE_FIELDS = {"os_name": "system", "kernel": "kernel", "libc": "C library", "python": "Python"}


def describe_machine(root: Path = Path("/")) -> MachineRecord:
    """Describe this machine; ``root`` is the folder of ``proc``, ``sys`` and ``etc``."""
    flags = _cpu_flags(root)
    revision = revision_of(Path(__file__).resolve().parents[1]) or Revision(None, None)
    return MachineRecord(
        cpu_model=cpu_model(root),
        architecture=platform.machine(),
        simd=tuple(name for name in _SIMD if name in flags),
        virtualised=_is_virtual(root, flags),
        cores_usable=core_count(),
        cores_total=os.cpu_count() or 1,
        governor=governor(root),
        memory_bytes=memory_info(root).get("MemTotal"),
        load_average_1min=round(os.getloadavg()[0], 2),
        os_name=_os_name(root),
        kernel=f"{platform.system()} {platform.release()}",
        libc=" ".join(platform.libc_ver()).strip() or None,
        python=platform.python_version(),
        packages=_package_versions(),
        environment={name: os.environ[name][:_LONGEST_VALUE] for name in _VARIABLES if name in os.environ},
        git_revision=revision.commit,
        git_dirty=revision.is_dirty,
    )


def _package_versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions


def _cpu_flags(root: Path) -> frozenset[str]:
    """Read the features of the first CPU: ``flags`` on x86, ``Features`` on Arm."""
    for line in (read_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _is_virtual(root: Path, flags: frozenset[str]) -> bool | None:
    is_guest = read_text(root / "sys/hypervisor/type") or (root / "proc/device-tree/hypervisor").exists()
    product = " ".join(read_text(root / "sys/class/dmi/id" / name) or "" for name in ("sys_vendor", "product_name"))
    if "hypervisor" in flags or is_guest or _VIRTUAL.search(product):
        return True
    # A board is named in its device tree, and x86 shows the hypervisor flag to every guest.
    is_known_bare = bool(product.strip()) or "sse2" in flags or bool(read_text(root / "proc/device-tree/model"))
    return False if is_known_bare else None


def _os_name(root: Path) -> str | None:
    for line in (read_text(root / "etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            with contextlib.suppress(ValueError):
                return " ".join(shlex.split(value)) or None
    return None
