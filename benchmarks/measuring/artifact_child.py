"""Child program that measures one artifact of a bundle: ``python -m benchmarks.measuring.artifact_child SPEC FD``.

It uses what a device uses, `edge_runtime.classifier`, and refuses to report if TensorFlow has been imported.

It uses what a device uses, `edge_runtime.classifier`, and refuses to report if TensorFlow has found its way in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring.child import Loader, Subject, is_training_loaded, run_child
from benchmarks.measuring.protocol import AskCamera, AskOffline, CameraTrace, ChildSpec, OfflineRun
from edge_runtime.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.classifier import Classifier
    from edge_runtime.engines.base import Engine
    from edge_runtime.preprocess import ImageU8


_DELEGATE = "DELEGATE"


def delegate_of(engine: Engine) -> str | None:
    """``edgetpu``, ``xnnpack``, ``xnnpack (2 of 71 operators)``, ``cpu``; None where the runtime does not say.

    LiteRT says it only through a method that is not part of its public interface, so a release without it gives None.
    """
    if engine.accelerator is not None:
        return engine.accelerator
    if engine.name == "onnxruntime":
        return "cpu"  # the only provider that edge_runtime asks for
    interpreter: Any = getattr(engine, "_interpreter", None)
    list_operators = getattr(interpreter, "_get_ops_details", None)
    return describe_operators(list_operators()) if list_operators is not None else None


def describe_operators(operators: Sequence[Mapping[str, Any]]) -> str:
    """The same from LiteRT's list of operators: those of the file, then one ``DELEGATE`` for each part taken over.

    Args:
        operators: Each with ``op_name``, and the tensor numbers ``inputs`` and ``outputs``.
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
    """Places in ``own`` of the operators that lead from a delegate's inputs to its outputs."""
    makers = {int(tensor): place for place, operator in enumerate(own) for tensor in operator["outputs"]}
    outer = {int(tensor) for tensor in part["inputs"]}
    found: set[int] = set()
    waiting = list(_numbers(part["outputs"]))
    while waiting:
        place = makers.get(waiting.pop())
        if place is not None and place not in found:
            found.add(place)
            waiting += [tensor for tensor in _numbers(own[place]["inputs"]) if tensor not in outer]
    return found


def _numbers(tensors: Iterable[Any]) -> list[int]:
    return [int(tensor) for tensor in tensors]


class ArtifactSubject(Subject):
    """An artifact behind `Classifier`, called as the device calls it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.runtime = f"{classifier.engine.name} {classifier.engine.version}"
        self.call = classifier.probabilities

    def delegate(self) -> str | None:
        """What runs the operators."""
        return delegate_of(self._classifier.engine)

    def decode(self, image: Path) -> ImageU8:
        """Read and decode an image file; one that is the model's input already is prepared too."""
        from edge_runtime.image_files import BIN_SUFFIX
        from edge_runtime.preprocess import load_image, load_prepared

        if image.suffix.lower() == BIN_SUFFIX:
            return load_prepared(image, self._classifier.input_spec)
        return load_image(image)

    def prepare(self, image_hwc_rgb_u8: ImageU8) -> ImageU8:
        """Crop and resize."""
        return self._classifier.prepare(image_hwc_rgb_u8)

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[Any]:
        """Run it: what `Classifier.probabilities` does first."""
        return self._classifier.invoke(prepared_hwc_rgb_u8)

    def postprocess(self, output: NDArray[Any]) -> object:
        """Dequantise, widen and rank the best five: what a device does then."""
        return self._classifier.rank(self._classifier.probabilities_of(output), top_k=5)

    def answers(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of all images, one after another."""
        import numpy as np

        return np.stack([self._classifier.probabilities(np.array(image)) for image in images_nhwc_rgb_u8])

    def offline(self, request: AskOffline) -> OfflineRun:
        """A folder, as ``edge-run classify`` does it."""
        from benchmarks.measuring.artifact_scenarios import run_offline
        from edge_runtime.classifier import Classifier

        return run_offline(request, lambda: Classifier(self._classifier.model, threads=1))

    def camera(self, request: AskCamera) -> CameraTrace:
        """A paced camera, as ``edge-run camera`` follows it."""
        from benchmarks.measuring.artifact_scenarios import run_camera

        return run_camera(request, self._classifier)

    def check(self) -> None:
        """Refuse to report a figure of a process that a device could not have."""
        if is_training_loaded():
            raise EngineError(
                "TensorFlow, Keras or JAX was imported while an artifact was measured; nothing of it is reported"
            )

    def close(self) -> None:
        """Release the runtime."""
        self._classifier.close()


def import_runtime() -> Loader:
    """Import the runtime side of the package; the engine itself is imported when the file is opened."""
    from edge_runtime.classifier import Classifier

    def load(spec: ChildSpec) -> Subject:
        # A model file is one variant already; a bundle is asked for the one.
        variant = spec.variant if Path(spec.model).is_dir() else None
        return ArtifactSubject(Classifier(spec.model, variant=variant, threads=spec.threads))

    return load


if __name__ == "__main__":
    run_child(import_runtime)
