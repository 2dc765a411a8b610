"""Checks of packages: NumPy, OpenCV, the runtimes and the optional extras, imported in a child process."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass

from edge_runtime.doctor.findings import Finding, info, ok, problem, warning
from edge_runtime.doctor.probe import Answer, Ask, ask


@dataclass(frozen=True)
class Runtime:
    """One that `edge_runtime.engines` knows: its name there, import name, distribution, and pip's words."""

    name: str
    package: str
    distribution: str
    install: str


_LITERT = Runtime("litert", "ai_edge_litert", "ai-edge-litert", "pip install ai-edge-litert")
_TFLITE = Runtime("tflite-runtime", "tflite_runtime", "tflite-runtime", "pip install tflite-runtime 'numpy<2'")
_ONNX = Runtime("onnxruntime", "onnxruntime", "onnxruntime", "pip install 'edgekit[onnx]'")
# Import name, what it is for, and where it comes from.
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


def examine_packages(ask_child: Ask = ask) -> Iterator[Finding]:
    """Everything that is imported.

    Args:
        ask_child: Asks a child process; see `edge_runtime.doctor.child`.
    """
    numpy = ask_child("import", "numpy")
    yield _imported("numpy", numpy, "pip install --force-reinstall numpy")
    yield from _examine_opencv(ask_child("import", "cv2"))
    yield from _examine_runtimes(ask_child)
    missing = {use: install for package, use, install in _EXTRAS if importlib.util.find_spec(package) is None}
    for use, install in missing.items():
        yield info("extras", f"not installed, and needed only for {use}", install)


def _imported(topic: str, answer: Answer, remedy: str) -> Finding:
    if answer.failure is None:
        return ok(topic, str(answer.facts.get("version", "")))
    return problem(topic, f"cannot be imported: {answer.failure}", _remedy(answer) or remedy)


def _examine_opencv(answer: Answer) -> Iterator[Finding]:
    installed = [name for name in ("opencv-python", "opencv-contrib-python") if _version(name)]
    headless = (
        "pip uninstall -y opencv-python opencv-contrib-python; pip install --force-reinstall opencv-python-headless"
    )
    yield _imported("opencv", answer, headless if installed else "pip install --force-reinstall opencv-python-headless")
    if answer.failure is None and installed and _version("opencv-python-headless"):
        yield warning(
            "opencv",
            f"{installed[0]} and opencv-python-headless are both installed and overwrite one another's files",
            headless,
        )


def _examine_runtimes(ask_child: Ask) -> Iterator[Finding]:
    found = [runtime for runtime in (_LITERT, _TFLITE, _ONNX) if importlib.util.find_spec(runtime.package) is not None]
    answers = {runtime: ask_child("tiny", runtime.name) for runtime in found}
    some_works = any(answer.failure is None for runtime, answer in answers.items() if runtime is not _ONNX)
    for runtime, answer in answers.items():
        if answer.failure is None:
            yield ok(runtime.name, f"{answer.facts.get('version', '')}, opens and runs a model")
            continue
        # LiteRT is taken by itself wherever it is installed, so a broken one is in the way of the others.
        report = warning if some_works and runtime is not _LITERT else problem
        yield report(
            runtime.name,
            f"{_version(runtime.distribution) or 'installed'}, but cannot run a model: {answer.failure}",
            _numpy_remedy(runtime) or _remedy(answer) or f"pip install --force-reinstall {runtime.distribution}",
        )
    if not {_LITERT, _TFLITE} & set(found):
        yield problem(
            "litert", "no runtime for .tflite files is installed", f"{_LITERT.install}, on 32 bit {_TFLITE.install}"
        )


def _numpy_remedy(runtime: Runtime) -> str | None:
    """tflite-runtime 2.14 was built against numpy 1; with numpy 2 it imports, and fails when a model is opened."""
    numpy = _version("numpy") or ""
    if runtime is _TFLITE and numpy and int(numpy.partition(".")[0]) >= 2:
        return f"it needs numpy 1 and this is {numpy}: pip install 'numpy<2', or better {_LITERT.install}"
    return None


def _remedy(answer: Answer) -> str | None:
    """What to do about the reasons that are met most."""
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
        return "install the system library that is named (apt-file search finds its package)"
    if "MemoryError" in reason or "SIGKILL" in reason:
        return "free some memory, or add swap"
    return None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
