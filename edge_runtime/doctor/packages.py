"""Checks of the software: Python, C library, NumPy, OpenCV, the runtimes and the optional extras."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.doctor.findings import Finding, info, ok, problem, warning
from edge_runtime.doctor.probe import Answer, Probe, probe


@dataclass(frozen=True)
class Runtime:
    """A runtime that `edge_runtime.engines` supports.

    Attributes:
        name: Name of the engine.
        package: Import name of the package.
        distribution: Name of the distribution on PyPI.
        install: Command that installs it.
    """

    name: str
    package: str
    distribution: str
    install: str


# The wheels of LiteRT, OpenCV and ONNX Runtime are built against glibc 2.27 and 2.28 (their manylinux tags).
_GLIBC = (2, 28)
_LITERT_PYTHON = ((3, 10), (3, 14))
_64_BIT = ("x86_64", "aarch64")
_LITERT = Runtime("litert", "ai_edge_litert", "ai-edge-litert", "pip install ai-edge-litert")
_TFLITE = Runtime("tflite-runtime", "tflite_runtime", "tflite-runtime", "pip install tflite-runtime 'numpy<2'")
_ONNX = Runtime("onnxruntime", "onnxruntime", "onnxruntime", "pip install 'edgekit[onnx]'")
# Import name, use, and command that installs it.
_EXTRAS = (
    ("onnxruntime", "ONNX variants", "pip install 'edgekit[onnx]'"),
    ("aiohttp", "--web", "pip install 'edgekit[web]'"),
    ("prometheus_client", "--web", "pip install 'edgekit[web]'"),
    ("paho", "--mqtt", "pip install 'edgekit[mqtt]'"),
    ("watchdog", "classify --watch", "pip install 'edgekit[watch]'"),
    (
        "picamera2",
        "cameras at the CSI port",
        "sudo apt install python3-picamera2, and make the virtual environment with --system-site-packages",
    ),
)


@dataclass(frozen=True)
class Python:
    """The interpreter and its platform.

    Attributes:
        version: Major and minor version, such as ``(3, 11)``.
        machine: Architecture of the kernel, such as ``aarch64``.
        bits: Word size of this Python, 32 or 64.
        libc: Name and version, such as ``glibc 2.36``; empty if it is not glibc.
    """

    version: tuple[int, int]
    machine: str
    bits: int
    libc: str


def this_python() -> Python:
    """Describe the running interpreter."""
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        libc = ""
    return Python(sys.version_info[:2], platform.machine(), struct.calcsize("P") * 8, libc)


def examine_python(python: Python) -> Iterator[Finding]:
    """Check that the runtimes have wheels for this Python."""
    name = f"Python {'.'.join(map(str, python.version))}, {python.bits} bit, on {python.machine}"
    lowest, highest = _LITERT_PYTHON
    if python.bits == 32 and python.machine in _64_BIT:
        yield problem(
            "python",
            f"{name}: a 32-bit system on a 64-bit kernel, for which pip finds no LiteRT",
            "install the 64-bit Raspberry Pi OS, or start the 32-bit kernel with arm_64bit=0 in config.txt",
        )
    elif python.bits == 32:
        yield warning(
            "python",
            f"{name}: 32-bit boards have only tflite-runtime, which is several times slower",
            "install a 64-bit system where the board can run one (Raspberry Pi 3 or newer, Zero 2)",
        )
    elif python.machine not in _64_BIT:
        yield warning("python", f"{name}: LiteRT has wheels for x86_64 and aarch64 only", "use such a machine")
    elif not lowest <= python.version <= highest:
        span = f"{'.'.join(map(str, lowest))} to {'.'.join(map(str, highest))}"
        yield warning("python", f"{name}: LiteRT 2.3 has wheels for Python {span}", "use one of these versions")
    else:
        yield ok("python", name)
    yield from _examine_libc(python.libc)


def _examine_libc(libc: str) -> Iterator[Finding]:
    wanted = ".".join(map(str, _GLIBC))
    kind, _, text = libc.partition(" ")
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
    if kind != "glibc" or not version:
        yield problem(
            "c library",
            "this is not glibc (musl, as in Alpine?), for which LiteRT has no wheels",
            "use a system with glibc, such as Raspberry Pi OS, Debian or Ubuntu",
        )
    elif version < _GLIBC:
        yield warning(
            "c library",
            f"{libc}: the wheels of LiteRT and OpenCV need {wanted} or newer",
            "upgrade the system to Debian 10, Ubuntu 20.04 or newer",
        )
    else:
        yield ok("c library", libc)


def examine_packages(run_probe: Probe = probe) -> Iterator[Finding]:
    """Check the packages by importing them in child processes.

    Args:
        run_probe: Function that runs a probe; a test passes another.
    """
    numpy = run_probe("import", "numpy")
    yield _imported("numpy", numpy, "pip install --force-reinstall numpy")
    yield from _examine_opencv(run_probe("import", "cv2"))
    yield from _examine_runtimes(run_probe)
    missing = {use: install for package, use, install in _EXTRAS if importlib.util.find_spec(package) is None}
    for use, install in missing.items():
        yield info("extras", f"not installed; needed only for {use}", install)


def _imported(topic: str, answer: Answer, remedy: str) -> Finding:
    if answer.failure is None:
        return ok(topic, str(answer.facts.get("version", "")))
    return problem(topic, f"cannot be imported: {answer.failure}", _remedy(answer) or remedy)


def _examine_opencv(answer: Answer) -> Iterator[Finding]:
    installed = [name for name in ("opencv-python", "opencv-contrib-python") if installed_version(name)]
    headless = (
        "pip uninstall -y opencv-python opencv-contrib-python; pip install --force-reinstall opencv-python-headless"
    )
    yield _imported("opencv", answer, headless if installed else "pip install --force-reinstall opencv-python-headless")
    if answer.failure is None and installed and installed_version("opencv-python-headless"):
        yield warning(
            "opencv",
            f"{installed[0]} and opencv-python-headless are both installed and overwrite each other's files",
            headless,
        )


def _examine_runtimes(run_probe: Probe) -> Iterator[Finding]:
    found = [runtime for runtime in (_LITERT, _TFLITE, _ONNX) if importlib.util.find_spec(runtime.package) is not None]
    answers = {runtime: run_probe("tiny", runtime.name) for runtime in found}
    some_works = any(answer.failure is None for runtime, answer in answers.items() if runtime is not _ONNX)
    for runtime, answer in answers.items():
        if answer.failure is None:
            yield ok(runtime.name, f"{answer.facts.get('version', '')}, opens and runs a model")
            continue
        # LiteRT is the default wherever it is installed, so a broken one hides the others.
        report = warning if some_works and runtime is not _LITERT else problem
        yield report(
            runtime.name,
            f"{installed_version(runtime.distribution) or 'installed'}, but cannot run a model: {answer.failure}",
            _numpy_remedy(runtime) or _remedy(answer) or f"pip install --force-reinstall {runtime.distribution}",
        )
    if not {_LITERT, _TFLITE} & set(found):
        yield problem(
            "litert", "no runtime for .tflite files is installed", f"{_LITERT.install}, on 32 bit {_TFLITE.install}"
        )


def _numpy_remedy(runtime: Runtime) -> str | None:
    """Suggest numpy 1 for tflite-runtime 2.14: with numpy 2 it imports, but fails when a model is opened."""
    numpy = installed_version("numpy") or ""
    if runtime is _TFLITE and numpy and int(numpy.partition(".")[0]) >= 2:
        return f"it needs numpy 1 and this is {numpy}: pip install 'numpy<2', or better {_LITERT.install}"
    return None


def _remedy(answer: Answer) -> str | None:
    """Suggest a fix for the most common failures."""
    reason = f"{answer.failure} {answer.error_type}"
    if "No module named" in reason:
        return "pip install edgekit again, in this virtual environment"
    if any(library in reason for library in ("libGL", "libxcb", "libgthread", "libSM", "libXext")):
        return "a package with windows needs X11: pip uninstall -y opencv-python; pip install opencv-python-headless"
    if "GLIBC" in reason or "CXXABI" in reason:
        return "the wheel is newer than this system: upgrade the system, or install an older version of the package"
    if "SIGILL" in reason:
        return "the wheel uses instructions that this processor lacks: use a 64-bit system, or an older version"
    if "cannot open shared object file" in reason:
        return "install the named system library (apt-file search finds its package)"
    if "MemoryError" in reason or "SIGKILL" in reason:
        return "free some memory, or add swap"
    return None


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
