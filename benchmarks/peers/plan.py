"""Tools to compare with, and the environment of each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import KERAS_MODEL_FILE
from edge_runtime.contract import Artifact, Manifest, Variant
from edge_runtime.errors import shorten
from edge_runtime.model.bundle import check_artifact

OWN = "edgekit"
_TFLITE = (Variant.FLOAT32, Variant.INT8)
_ONNX = (Variant.ONNX_FLOAT32, Variant.ONNX_INT8)
_YOLO_FORMATS = ("torch", "onnx", "litert")
_YOLO = "YOLO26n-cls, random weights"
_OWN_CHOICE = "its own"
_MAX_LOG_BYTES = 1 << 20
_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Places:
    """A folder with a virtual environment ``.venv-PEER`` for each peer, as ``make bench-peers`` lays them out.

    Attributes:
        root: Folder of the environments, the checkout.
    """

    root: Path

    def python(self, environment: str) -> Path | None:
        """Find the Python of an environment, or None where it was not made or its set-up failed."""
        if environment == OWN:
            return Path(sys.executable)
        folder = self.root / f".venv-{environment}"
        # Absolute, but not resolved: Python finds its environment by the link.
        program = Path(os.path.abspath(folder / "bin" / "python"))  # noqa: PTH100
        return program if program.exists() and any(folder.glob(".setup*")) else None

    def why_missing(self, environment: str) -> str:
        """Give the error of the installation, or the way to install it."""
        try:
            with (self.root / f".venv-{environment}" / "pip.txt").open("rb") as file:
                text = file.read(_MAX_LOG_BYTES).decode(errors="replace")
        except OSError:
            text = ""
        # The last error of pip names the missing package.
        errors = [line.strip() for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines()
        if errors:
            return f"cannot be installed here: {shorten(errors[-1], _REASON_CHARACTERS)}"
        return f"no virtual environment .venv-{environment} in {self.root.name or self.root}; make bench-peers makes it"


@dataclass(frozen=True)
class PeersConfig:
    """Command line of ``python -m benchmarks.peers``.

    Attributes:
        bundle: Directory of the bundle.
        keras: Run directory that it was made from, or None.
        data: Source of labelled images, or None for the test split of ``keras``.
        pictures: Largest number of images.
        rounds: Number of fresh processes of each tool.
        threads: Threads inside one inference, where a tool lets its user choose.
        seed: Seed of the order and the drawn images.
        timeout_s: Seconds after which a process is killed.
        places: Folder of the virtual environments.
        command: Command line as typed.
    """

    bundle: Path
    keras: Path | None
    data: str | None
    pictures: int
    rounds: int
    threads: int
    seed: int
    timeout_s: float
    places: Places
    command: str


@dataclass(frozen=True)
class Peer:
    """One row of the comparison.

    Attributes:
        tool: Name of the tool, such as ``MediaPipe ImageClassifier``.
        what: Model: a variant of the bundle, ``model.keras``, or the stated equivalent.
        environment: Name of its virtual environment.
        opener: Name of its opener in `benchmarks.peers.tools`; empty for the command ``edge-run classify``.
        model: Model file; None where the tool makes its own.
        beside: Name of our row that it is compared with; empty for our own rows.
        threads: Threads inside one inference, in the words of the table.
        format: Format that an Ultralytics model runs in; else empty.
    """

    tool: str
    what: str
    environment: str
    opener: str
    model: Path | None
    beside: str
    threads: str
    format: str = ""

    @property
    def name(self) -> str:
        """Unique name of the row."""
        return f"{self.tool}, {self.what}"

    @property
    def is_same_model(self) -> bool:
        """True if its answers can be right: it runs the bundle's model or the one that this came from."""
        return self.model is not None


@dataclass(frozen=True)
class NotMeasured:
    """Row that could not be measured, and the reason."""

    name: str
    reason: str


def plan_peers(
    bundle: Path, manifest: Manifest, keras: Path | None, threads: int, places: Places
) -> tuple[list[Peer], list[NotMeasured]]:
    """Plan the rows that can be measured here, ours first, and list those that cannot.

    Raises:
        IntegrityError: An artifact is missing or was altered.
    """
    held = {artifact.variant: artifact for artifact in manifest.artifacts}
    wanted, missing = [], []
    for variant in (*_TFLITE, *_ONNX):
        if variant in held:
            wanted += _rows_of(bundle, held[variant], str(threads))
        else:
            missing.append(NotMeasured(variant.value, f"the bundle {bundle} does not hold it"))
    first = next((peer.name for peer in wanted if not peer.beside), "")
    if keras is not None:
        model = (keras / KERAS_MODEL_FILE).resolve()
        # It needs what training needs, so it shares that environment.
        wanted.append(Peer("Keras predict", KERAS_MODEL_FILE, OWN, "keras", model, first, _OWN_CHOICE))
    else:
        missing.append(NotMeasured("Keras predict", "no run directory was given (--keras RUN)"))
    for kind in _YOLO_FORMATS:
        what = f"{_YOLO}, {kind}"
        wanted.append(Peer("Ultralytics predict", what, "ultralytics", "ultralytics", None, first, _OWN_CHOICE, kind))
    there, absent = [], []
    for peer in wanted:
        if places.python(peer.environment) is None:
            absent.append(NotMeasured(peer.name, places.why_missing(peer.environment)))
        else:
            there.append(peer)
    return there, [*missing, *absent]


def _rows_of(bundle: Path, artifact: Artifact, threads: str) -> list[Peer]:
    """Plan the rows that run one artifact, ours first."""
    model, what = check_artifact(bundle, artifact).resolve(), artifact.variant.value
    ours = Peer(OWN, what, OWN, "edgekit", model, "", threads)
    if artifact.variant in _ONNX:
        return [ours, Peer("plain ONNX Runtime loop", what, "onnxruntime", "onnxruntime", model, ours.name, threads)]
    return [
        ours,
        Peer("edge-run classify", what, OWN, "", model, ours.name, f"{threads}, a worker per core"),
        Peer("plain LiteRT loop", what, "litert", "litert", model, ours.name, threads),
        Peer("MediaPipe ImageClassifier", what, "mediapipe", "mediapipe", model, ours.name, _OWN_CHOICE),
    ]
