"""Child program that measures one artifact of a bundle.

It uses `edge_runtime.classifier` as a device does, and refuses to report if TensorFlow has been imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring.child import Loader, Subject, is_training_loaded, run_child
from benchmarks.measuring.protocol import AskCamera, AskOffline, CameraTrace, ChildSpec, OfflineRun
from edge_runtime.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.classifier import Classifier
    from edge_runtime.engines import Engine
    from edge_runtime.preprocess import ImageU8

_DELEGATE = "DELEGATE"


class ArtifactSubject(Subject):
    """An artifact behind `Classifier`, called as the device calls it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.runtime = f"{classifier.engine.name} {classifier.engine.version}"
        self.input_spec = classifier.input_spec
        self.call = classifier.probabilities

    def delegate(self) -> str | None:
        """Name the executor of the operators."""
        return delegate_of(self._classifier.engine)

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[Any]:
        """Run the model: the first step of `Classifier.probabilities`."""
        return self._classifier.invoke(prepared_hwc_rgb_u8)

    def postprocess(self, output: NDArray[Any]) -> object:
        """Dequantize, widen and rank the best five as a device does."""
        return self._classifier.rank(self._classifier.probabilities_of(output), top_k=5)

    def answers(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the probabilities of all images, one after another."""
        import numpy as np

        return np.stack([self._classifier.probabilities(np.array(image)) for image in images_nhwc_rgb_u8])

    def offline(self, request: AskOffline) -> OfflineRun:
        """Classify a folder as ``edge-run classify`` does."""
        from benchmarks.measuring.artifact_scenarios import run_offline
        from edge_runtime.classifier import Classifier

        return run_offline(request, lambda: Classifier(self._classifier.model, threads=1))

    def camera(self, request: AskCamera) -> CameraTrace:
        """Follow a paced camera as ``edge-run camera`` does."""
        from benchmarks.measuring.artifact_scenarios import run_camera

        return run_camera(request, self._classifier)

    def check(self) -> None:
        """Refuse to report a figure of a process that a device could not have."""
        if is_training_loaded():
            raise EngineError(
                "TensorFlow, Keras or JAX was imported while an artifact was measured; none of its figures are reported"
            )

    def close(self) -> None:
        """Release the runtime."""
        self._classifier.close()


def delegate_of(engine: Engine) -> str | None:
    """Name the executor of an engine's operators.

    LiteRT tells it only through a private method, so a release without that method gives None.

    Returns:
        ``edgetpu``, ``xnnpack``, ``xnnpack (2 of 71 operators)`` or ``cpu``; None if the runtime does not tell.
    """
    if engine.accelerator is not None:
        return engine.accelerator
    if engine.name == "onnxruntime":
        return "cpu"  # the only provider that edge_runtime requests
    interpreter: Any = getattr(engine, "_interpreter", None)
    list_operators = getattr(interpreter, "_get_ops_details", None)
    return describe_operators(list_operators()) if list_operators is not None else None


def describe_operators(operators: Sequence[Mapping[str, Any]]) -> str:
    """Name the executor from LiteRT's list of operators.

    Args:
        operators: Operators of the file, then one ``DELEGATE`` for each part taken over; each with ``op_name`` and the
            tensor numbers ``inputs`` and ``outputs``.
    """
    own = [operator for operator in operators if operator["op_name"] != _DELEGATE]
    taken: set[int] = set()
    for part in operators:
        if part["op_name"] == _DELEGATE:
            taken |= _taken_over(own, part)
    if not taken:
        return "cpu"
    return "xnnpack" if len(taken) == len(own) else f"xnnpack ({len(taken)} of {len(own)} operators)"


def _taken_over(own: Sequence[Mapping[str, Any]], part: Mapping[str, Any]) -> set[int]:
    """Find the operators that lead from a delegate's inputs to its outputs, as indices of ``own``."""
    makers = {int(tensor): place for place, operator in enumerate(own) for tensor in operator["outputs"]}
    outer = set(map(int, part["inputs"]))
    found: set[int] = set()
    pending = list(map(int, part["outputs"]))
    while pending:
        place = makers.get(pending.pop())
        if place is not None and place not in found:
            found.add(place)
            pending += [tensor for tensor in map(int, own[place]["inputs"]) if tensor not in outer]
    return found


def import_runtime() -> Loader:
    """Import the runtime side of the package; the engine itself is imported when the file is opened."""
    from edge_runtime.classifier import Classifier

    def load(spec: ChildSpec) -> Subject:
        # A model file is a single variant; in a bundle one is selected.
        variant = spec.variant if Path(spec.model).is_dir() else None
        return ArtifactSubject(Classifier(spec.model, variant=variant, threads=spec.threads))

    return load


def main() -> None:
    """Run the child program."""
    run_child(import_runtime)
