"""Child program that measures the Keras model of a run: ``python -m benchmarks.measuring.keras_child SPEC.json``.

The only module of this package that imports TensorFlow, always in a process of its own.
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring.child import Loader, Subject, run_child
from benchmarks.measuring.protocol import ChildSpec
from benchmarks.plan import KERAS_MODEL_FILE, KERAS_PREDICT
from edge_runtime.contract import Manifest, OutputSpec
from edge_runtime.modelfile import read_bundle_manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.preprocess import ImageU8

_BATCH = 64


class KerasSubject(Subject):
    """A loaded Keras model; subclasses say how it is called.

    Args:
        model: The Keras model: uint8 [batch, H, W, 3] RGB to probabilities.
        manifest: Of the run.
    """

    def __init__(self, model: Any, manifest: Manifest) -> None:
        import keras
        import tensorflow as tf

        self._model, self._manifest = model, manifest
        self.runtime = f"keras {keras.__version__} on tensorflow {tf.__version__}"

    def prepare(self, picture: Path) -> ImageU8:
        """Decode and prepare a picture file as the device does."""
        from edge_runtime.preprocess import load_prepared

        return load_prepared(picture, self._manifest.input)

    @abstractmethod
    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """One picture to the model's output, float32 [1, N] or [1, 1]."""

    @abstractmethod
    def top1(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
        """Label index of the answer for each picture."""


class PredictSubject(KerasSubject):
    """``model.predict`` of one picture; the answers are computed in batches."""

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """``model.predict`` of a batch of one."""
        return self._model.predict(prepared_hwc_rgb_u8[None], verbose=0)

    def top1(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
        """All answers by ``model.predict``."""
        import numpy as np

        starts = range(0, len(images_nhwc_rgb_u8), _BATCH)
        batches = [np.array(images_nhwc_rgb_u8[start : start + _BATCH]) for start in starts]
        outputs = [self._model.predict_on_batch(batch) for batch in batches]
        return decide(np.concatenate(outputs), self._manifest.output)


class FunctionSubject(KerasSubject):
    """The model as a ``tf.function`` traced for one picture, numpy in and numpy out."""

    def __init__(self, model: Any, manifest: Manifest) -> None:
        super().__init__(model, manifest)
        import tensorflow as tf

        signature = tf.TensorSpec((1, *manifest.input.shape_hwc), model.inputs[0].dtype)
        self._function = tf.function(lambda batch: model(batch, training=False), input_signature=[signature])
        self._dtype = signature.dtype.as_numpy_dtype

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """One call of the traced function."""
        return self._function(prepared_hwc_rgb_u8[None].astype(self._dtype, copy=False)).numpy()

    def top1(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.int32]:
        """All answers by the traced function, one picture at a time."""
        import numpy as np

        outputs = [self.invoke(np.array(image)) for image in images_nhwc_rgb_u8]
        return decide(np.concatenate(outputs), self._manifest.output)


def decide(outputs: NDArray[np.float32], output: OutputSpec) -> NDArray[np.int32]:
    """Label index of each answer, int32 [n], for the model's raw outputs, [n, labels] or [n, 1]."""
    import numpy as np

    from edge_runtime.decision import top1, widen

    return top1(widen(outputs, output), output).astype(np.int32)


def import_runtime() -> Loader:
    """Import TensorFlow and Keras."""
    import keras
    import tensorflow as tf

    def load(spec: ChildSpec) -> Subject:
        tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
        tf.config.threading.set_inter_op_parallelism_threads(spec.threads)
        run = Path(spec.model)
        model = keras.saving.load_model(run / KERAS_MODEL_FILE, compile=False, safe_mode=True)
        kind = PredictSubject if spec.variant == KERAS_PREDICT else FunctionSubject
        return kind(model, read_bundle_manifest(run))

    return load


if __name__ == "__main__":
    run_child(import_runtime)
