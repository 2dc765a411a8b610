"""Child program that measures the Keras model of a run; the only module of this package that imports TensorFlow."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from benchmarks.measuring.child import Loader, Subject, read_paths, run_child
from benchmarks.measuring.protocol import AskCamera, AskOffline, CameraTrace, ChildSpec, OfflineRun
from benchmarks.plan import KERAS_MODEL_FILE, KERAS_PREDICT, KERAS_XLA
from edge_runtime.contract import Manifest
from edge_runtime.errors import EngineError, ModelError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.platform.process import collecting_later

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge_runtime.preprocess import ImageU8

_BATCH = 64
_OFFLINE_BATCH = 32
_BATCHES_AHEAD = 2
_TOP_K = 5


class KerasSubject(Subject):
    """A loaded Keras model from uint8 [batch, H, W, 3] RGB to probabilities; subclasses define its call."""

    def __init__(self, model: Any, manifest: Manifest) -> None:
        import keras
        import tensorflow as tf

        self._model, self._manifest, self.input_spec = model, manifest, manifest.input
        self.runtime = f"keras {keras.__version__} on tensorflow {tf.__version__}"
        self.call: Callable[[ImageU8], object] = self._call

    def delegate(self) -> str | None:
        """Return ``cpu``, since a GPU is hidden from this process."""
        return "cpu"

    def postprocess(self, output: NDArray[np.float32]) -> object:
        """Widen and rank the best five."""
        import numpy as np

        probabilities = self._widen(output)[0]
        order = np.argsort(-probabilities, kind="stable")[:_TOP_K].tolist()
        return [(self._manifest.labels[index], float(probabilities[index])) for index in order]

    def answers(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the probabilities of all images, one after another."""
        import numpy as np

        return np.concatenate([self._call(np.array(image)) for image in images_nhwc_rgb_u8])

    def offline(self, request: AskOffline) -> OfflineRun:  # noqa: ARG002 - the same for every request
        """Refuse: a folder is predicted in batches, by ``keras-predict``."""
        raise EngineError("a folder is classified in batches, which is measured with keras-predict")

    def camera(self, request: AskCamera) -> CameraTrace:  # noqa: ARG002 - the same for every request
        """Refuse: the camera loop takes exported models only."""
        raise EngineError("not for Keras: the camera loop of the device takes exported models only")

    def _call(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        return self._widen(self.invoke(prepared_hwc_rgb_u8))

    def _widen(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        from edge_runtime.classifier import widen

        return widen(np.asarray(outputs, np.float32), self._manifest.output)


class PredictSubject(KerasSubject):
    """``model.predict`` of one image; all answers and a folder are computed in batches."""

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """Call ``model.predict`` with a batch of one."""
        with _short_errors():
            return self._model.predict(prepared_hwc_rgb_u8[None], verbose=0)

    def answers(self, images_nhwc_rgb_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the probabilities of all images, in batches."""
        import numpy as np

        starts = range(0, len(images_nhwc_rgb_u8), _BATCH)
        batches = [np.array(images_nhwc_rgb_u8[start : start + _BATCH]) for start in starts]
        with _short_errors():
            return self._widen(np.concatenate([self._model.predict_on_batch(batch) for batch in batches]))

    def offline(self, request: AskOffline) -> OfflineRun:
        """Classify a folder: threads decode and prepare ahead while batches of 32 are predicted."""
        import cv2

        from edge_runtime.preprocess import load_prepared

        # OpenCV's own threads would compete with ours for the same cores, as in the device's folder loop.
        cv2.setNumThreads(1)
        paths = itertools.cycle(read_paths(request.paths))
        with ThreadPoolExecutor(request.workers) as pool, _short_errors():

            def submit() -> list[Future[ImageU8]]:
                chosen = itertools.islice(paths, _OFFLINE_BATCH)
                return [pool.submit(load_prepared, path, self._manifest.input) for path in chosen]

            return _predict_folder(self._model.predict_on_batch, submit, request.duration_s)


class FunctionSubject(KerasSubject):
    """The model as a ``tf.function`` traced for one image, numpy in and numpy out; compiled by XLA with ``use_xla``."""

    def __init__(self, model: Any, manifest: Manifest, *, use_xla: bool) -> None:
        super().__init__(model, manifest)
        import tensorflow as tf

        signature = tf.TensorSpec((1, *manifest.input.shape_hwc), model.inputs[0].dtype)
        self._function = tf.function(
            lambda batch: model(batch, training=False),
            input_signature=[signature],
            jit_compile=True if use_xla else None,
        )
        self._dtype = signature.dtype.as_numpy_dtype

    def invoke(self, prepared_hwc_rgb_u8: ImageU8) -> NDArray[np.float32]:
        """Call the traced function."""
        with _short_errors():
            return self._function(prepared_hwc_rgb_u8[None].astype(self._dtype, copy=False)).numpy()


def import_runtime() -> Loader:
    """Import TensorFlow and Keras."""
    with collecting_later():  # as `edge-train` does, in favor of Keras
        import keras
        import tensorflow as tf

    def load(spec: ChildSpec) -> Subject:
        tf.config.threading.set_intra_op_parallelism_threads(spec.threads)
        tf.config.threading.set_inter_op_parallelism_threads(spec.threads)
        file = Path(spec.model) / KERAS_MODEL_FILE
        manifest = read_bundle_manifest(Path(spec.model))
        try:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
        except (ValueError, TypeError, KeyError, OSError, ImportError, AttributeError, BadZipFile) as error:
            raise ModelError(f"{file}: Keras {keras.__version__} cannot open it ({_line(error)})") from error
        if spec.variant == KERAS_PREDICT:
            return PredictSubject(model, manifest)
        return FunctionSubject(model, manifest, use_xla=spec.variant == KERAS_XLA)

    return load


def _predict_folder(
    predict: Callable[[Any], Any], submit: Callable[[], list[Future[ImageU8]]], duration_s: float
) -> OfflineRun:
    import numpy as np

    ahead = deque(submit() for _ in range(_BATCHES_AHEAD))

    def do_batch() -> None:
        batch = np.stack([future.result() for future in ahead.popleft()])
        ahead.append(submit())
        predict(batch)

    do_batch()  # traces the function; opening an interpreter is not counted either
    images, start_ns, cpu_start_ns = 0, time.perf_counter_ns(), time.process_time_ns()
    while time.perf_counter_ns() - start_ns < duration_s * 1e9:
        do_batch()
        images += _OFFLINE_BATCH
    wall_ns, cpu_ns = time.perf_counter_ns() - start_ns, time.process_time_ns() - cpu_start_ns
    for future in itertools.chain.from_iterable(ahead):
        future.cancel()
    return OfflineRun(images, wall_ns, cpu_ns)


@contextmanager
def _short_errors() -> Iterator[None]:
    """Turn a TensorFlow error, which can be pages long, into one sentence."""
    import tensorflow as tf

    try:
        yield
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise EngineError(f"TensorFlow failed ({_line(error)})") from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def main() -> None:
    """Run the child program."""
    run_child(import_runtime)
