"""Installed size of the packages that a model needs to run."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

import edge_runtime

_OWN = "edgekit"
_OPENCV = ("opencv-python-headless", "opencv-contrib-python-headless", "opencv-python", "opencv-contrib-python")
_RUNTIMES = {
    "litert": ("ai-edge-litert",),
    "tflite-runtime": ("tflite-runtime",),
    "onnxruntime": ("onnxruntime",),
    "keras": ("keras", "tensorflow"),
}


def packages_of(runtime: str) -> tuple[str, ...]:
    """List the packages that a runtime needs, by their names on PyPI.

    Args:
        runtime: ``litert``, ``tflite-runtime``, ``onnxruntime`` or ``keras``; a version may follow.

    Returns:
        Packages of the runtime first, then those that decode and prepare images; empty for another runtime.
    """
    own = _RUNTIMES.get((runtime.split() or [""])[0])
    if own is None:
        return ()
    opencv = next((name for name in _OPENCV if _distribution(name)), _OPENCV[0])
    return (*own, "numpy", opencv, "click", _OWN)


@functools.lru_cache(maxsize=16)
def install_bytes(packages: tuple[str, ...]) -> int | None:
    """Sum the installed files of packages and of all their dependencies, each counted once.

    Of edgekit only its device side, `edge_runtime`, counts: the rest is not needed to run a model.

    Args:
        packages: Names on PyPI.

    Returns:
        Size in bytes; None if no package is given, if one of them is not installed, or without the package
        ``packaging``, which evaluates the dependencies for this machine.
    """
    try:
        from packaging.requirements import Requirement
        from packaging.utils import canonicalize_name
    except ModuleNotFoundError:
        return None
    if not packages or any(_distribution(name) is None for name in packages if name != _OWN):
        return None
    seen: set[str] = set()
    waiting = [name for name in packages if name != _OWN]
    total = _own_bytes() if _OWN in packages else 0
    while waiting:
        name: str = canonicalize_name(waiting.pop())
        # A dependency that is not installed takes no space.
        if name in seen or (found := _distribution(name)) is None:
            continue
        seen.add(name)
        total += _file_bytes(found)
        required = [Requirement(text) for text in found.requires or ()]
        waiting += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return total


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _file_bytes(distribution: importlib.metadata.Distribution) -> int:
    total = 0
    for file in distribution.files or ():
        if file.size is not None:
            total += file.size
        elif (path := Path(str(file.locate()))).is_file():  # compiled files are listed without their size
            total += path.stat().st_size
    return total


def _own_bytes() -> int:
    folder = Path(edge_runtime.__file__).parent
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
