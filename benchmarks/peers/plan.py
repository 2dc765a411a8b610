"""Tools to compare with, and the environment of each."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.plan import KERAS_MODEL_FILE
from edge_runtime.contract import Artifact, Manifest, Variant
from edge_runtime.labels import shorten
from edge_runtime.model.bundle import check_artifact

OWN = "edgekit"
PIP_SAID = "pip.txt"
_MAX_LOG_BYTES = 1 << 20
_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Places:
    """A folder with a virtual environment ``.venv-PEER`` for each peer, as ``make bench-peers`` lays them out.

    Attributes:
        root: The checkout.
    """

    root: Path

    def python(self, environment: str) -> Path | None:
        """The Python of an environment, or None where it was not made or its set-up did not end well."""
        if environment == OWN:
            return Path(sys.executable)
        folder = self.root / f".venv-{environment}"
        # Absolute, but not resolved: the link is what tells Python in which environment it is.
        program = Path(os.path.abspath(folder / "bin" / "python"))  # noqa: PTH100
        return program if program.exists() and any(folder.glob(".setup*")) else None

    def why_missing(self, environment: str) -> str:
        """One sentence: what the installation said, or how to install it."""
        try:
            with (self.root / f".venv-{environment}" / PIP_SAID).open("rb") as file:
                text = file.read(_MAX_LOG_BYTES).decode(errors="replace")
        except OSError:
            text = ""
        # pip names what it could not find in its last error; warnings stand between.
        errors = [line.strip() for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines()
        if errors:
            return f"cannot be installed here: {shorten(errors[-1], _REASON_CHARACTERS)}"
        return f"no virtual environment .venv-{environment} in {self.root.name or self.root}; make bench-peers makes it"


OURS = "edgekit"
OURS_WHOLE = "edge-run classify"
_TFLITE = (Variant.FLOAT32, Variant.INT8)
_ONNX = (Variant.ONNX_FLOAT32, Variant.ONNX_INT8)
_YOLO_FORMATS = ("torch", "onnx", "litert")
_YOLO = "YOLO26n-cls, random weights"
_OWN_CHOICE = "its own"


@dataclass(frozen=True)
class Peer:
    """One row of the comparison.

    Attributes:
        tool: Such as ``MediaPipe ImageClassifier``.
        what: The model: a variant of the bundle, ``model.keras``, or the stated equivalent.
        environment: Name of its virtual environment.
        module: Its module in `benchmarks.peers.scripts`; empty for the command ``edge-run classify``.
        model: The model file; None where the tool makes its own.
        beside: Name of the row of ours that it is compared with; empty for these rows themselves.
        threads: Threads inside one inference, as the table says it.
        format: What an Ultralytics model runs as; else empty.
    """

    tool: str
    what: str
    environment: str
    module: str
    model: Path | None
    beside: str
    threads: str
    format: str = ""

    @property
    def name(self) -> str:
        """Unique among the rows."""
        return f"{self.tool}, {self.what}"

    @property
    def is_same_model(self) -> bool:
        """Whether its answers can be right: it runs the bundle's model or the one that this came from."""
        return self.model is not None


@dataclass(frozen=True)
class NotMeasured:
    """A row that could not be measured, and why."""

    name: str
    reason: str


def plan_peers(
    bundle: Path, manifest: Manifest, keras: Path | None, threads: int, places: Places
) -> tuple[list[Peer], list[NotMeasured]]:
    """The rows that can be measured here, ours first, and those that cannot.

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
        wanted.append(Peer("Keras predict", KERAS_MODEL_FILE, OWN, "peer_keras", model, first, _OWN_CHOICE))
    else:
        missing.append(NotMeasured("Keras predict", "no run directory was given (--keras RUN)"))
    for kind in _YOLO_FORMATS:
        tool, what = "Ultralytics predict", f"{_YOLO}, {kind}"
        wanted.append(Peer(tool, what, "ultralytics", "peer_ultralytics", None, first, _OWN_CHOICE, kind))
    there, absent = [], []
    for peer in wanted:
        if places.python(peer.environment) is None:
            absent.append(NotMeasured(peer.name, places.why_missing(peer.environment)))
        else:
            there.append(peer)
    return there, [*missing, *absent]


def _rows_of(bundle: Path, artifact: Artifact, threads: str) -> list[Peer]:
    """The rows that run one artifact, ours first."""
    model, what = check_artifact(bundle, artifact).resolve(), artifact.variant.value
    ours = Peer(OURS, what, OWN, "peer_edgekit", model, "", threads)
    rows = [ours]
    if artifact.variant in (Variant.FLOAT32, Variant.INT8):
        rows.append(Peer(OURS_WHOLE, what, OWN, "", model, ours.name, f"{threads}, a worker per core"))
    if artifact.variant in _TFLITE:
        rows.append(Peer("plain LiteRT loop", what, "litert", "peer_litert", model, ours.name, threads))
        rows.append(
            Peer("MediaPipe ImageClassifier", what, "mediapipe", "peer_mediapipe", model, ours.name, _OWN_CHOICE)
        )
    else:
        rows.append(Peer("plain ONNX Runtime loop", what, "onnxruntime", "peer_onnxruntime", model, ours.name, threads))
    return rows
