"""Child program that measures one artifact of a bundle: ``python -m benchmarks.measuring.artifact_child SPEC.json``.

It uses what a device uses, `edge_runtime.classifier`, and refuses to report if TensorFlow has found its way in.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring.child import Loader, Subject, is_training_loaded, run_child
from benchmarks.measuring.protocol import ChildSpec
from edge_runtime.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.classifier import Classifier
    from edge_runtime.preprocess import ImageU8


class ArtifactSubject(Subject):
    """An artifact behind `Classifier`, called as the device calls it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.runtime = f"{classifier.engine.name} {classifier.engine.version}"

    def prepare(self, picture: Path) -> ImageU8:
        """Decode and prepare a picture file."""
        from edge_runtime.preprocess import load_prepared

        return load_prepared(picture, self._classifier.input_spec)

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """One inference with its dequantization."""
        return self._classifier.probabilities(prepared_hwc_rgb_u8)

    def top1(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
        """The answers, ranked as the device ranks them."""
        import numpy as np

        index_of = {label: index for index, label in enumerate(self._classifier.labels)}
        answers = np.empty(len(images_nhwc_rgb_u8), np.int32)
        for row, image in enumerate(images_nhwc_rgb_u8):
            best = self._classifier.rank(self.invoke(np.array(image)), top_k=1)[0]
            answers[row] = index_of[best.label]
        if is_training_loaded():
            raise EngineError(
                "TensorFlow, Keras or JAX was imported while an artefact was measured; nothing is reported"
            )
        return answers


def import_runtime() -> Loader:
    """Import the runtime side of the package; the engine itself is imported when the file is opened."""
    from edge_runtime.classifier import Classifier

    def load(spec: ChildSpec) -> Subject:
        return ArtifactSubject(Classifier(spec.model, variant=spec.variant, threads=spec.threads))

    return load


if __name__ == "__main__":
    run_child(import_runtime)
