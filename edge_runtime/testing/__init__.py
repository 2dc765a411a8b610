"""Fakes for tests: an engine, a frame source, and a tiny real model and bundle."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import Classifier
from edge_runtime.contract import (
    LABELS_FILE,
    MANIFEST_FILE,
    Artifact,
    Check,
    Head,
    InputSpec,
    Manifest,
    OutputSpec,
    TensorSpec,
    Variant,
    labels_to_text,
)
from edge_runtime.engines import Engine
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import ModelFile, ModelOptions
from edge_runtime.model.embedded import CHECKSUM_FILE
from edge_runtime.preprocess import ImageU8
from edge_runtime.results import StateChange
from edge_runtime.sources.base import Frame, FrameSource

TINY_LABELS = ("red", "green", "blue")
_TINY_SCALE = 1 / 256


class FakeEngine(Engine):
    """Engine without a model file: output n is the share of pixels whose brightness is in the n-th of N steps.

    With two labels a black image is the first and a white one the second; equal pixels give equal answers.

    Args:
        labels: Number of outputs, N.
        size: Height and width of the input, in pixels.
        delay_s: Duration of one inference, in seconds.
        fails: True to raise EngineError at every inference.
    """

    name = "fake"
    version = "1"

    def __init__(self, labels: int = 2, size: int = 8, *, delay_s: float = 0.0, fails: bool = False) -> None:
        self.input = TensorSpec("image", "uint8", (1, size, size, 3), 0.0, 0)
        self.output = TensorSpec("probabilities", "float32", (1, labels), 0.0, 0)
        self.invocations = 0
        self.closed = False
        self._delay_s, self._fails = delay_s, fails

    def invoke(self, input_nhwc: NDArray[Any]) -> NDArray[Any]:
        """Count the call, wait, and return shares of brightness; see `Engine.invoke`."""
        if self.closed or self._fails or input_nhwc.shape != self.input.shape or input_nhwc.dtype != np.uint8:
            raise EngineError(f"fake failed: closed {self.closed}, input {input_nhwc.dtype} {input_nhwc.shape}")
        self.invocations += 1
        time.sleep(self._delay_s)
        count = self.output.shape[1]
        steps = input_nhwc.mean(axis=3).astype(np.int64) * count // 256
        shares: NDArray[np.float32] = np.bincount(steps.reshape(-1), minlength=count).astype(np.float32) / steps.size
        return shares[np.newaxis]

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True


class FakeSource(FrameSource):
    """Camera that yields given images and state changes, in order and without waiting.

    Args:
        items: Images, uint8 [height, width, 3] RGB, and state changes of the source; read lazily.
        period_s: Time between two frames on the source's own clock, in seconds.
    """

    name = "fake"
    live = True

    def __init__(self, items: Iterable[ImageU8 | StateChange], *, period_s: float = 1 / 30) -> None:
        self._items, self._period_s = items, period_s
        self.closed = False

    def frames(self, until_s: float | None = None) -> Iterator[Frame | StateChange]:
        """Yield the items; see `FrameSource.frames`."""
        number = 0
        for item in self._items:
            now_s = time.perf_counter()
            if until_s is not None and now_s >= until_s:
                return
            if isinstance(item, StateChange):
                yield item
            else:
                yield Frame(number, number * self._period_s, time.time(), now_s, 0.0, item)
                number += 1

    def close(self) -> None:
        """Set ``closed``."""
        self.closed = True


def fake_classifier(labels: Sequence[str] = ("dark", "light"), engine: FakeEngine | None = None) -> Classifier:
    """Make a classifier around a fake engine, or one that fits the labels; no file is read."""
    engine = engine or FakeEngine(len(labels))
    size = engine.input.shape[1]
    manifest = Manifest("fake", tuple(labels), InputSpec(size, size), OutputSpec(Head.SOFTMAX, 0.0), training=None)
    return Classifier(ModelFile(Path("fake.tflite"), manifest, None, ModelOptions()), engine=engine)


def tiny_manifest(size: int = 8) -> Manifest:
    """Manifest of the tiny model: three labels, with the mean of red, green and blue as scores."""
    return Manifest("tiny", TINY_LABELS, InputSpec(size, size), OutputSpec(Head.SOFTMAX, 0.0), training=None)


def write_tiny_model(path: Path, size: int = 8, *, with_manifest: bool = True) -> Path:
    """Write a real TFLite model without TensorFlow: uint8 ``[1, size, size, 3]`` to the mean of each channel.

    Its outputs are uint8 of scale 1/256 in the order of `TINY_LABELS`. Needs the schema that ai-edge-litert brings.
    The manifest is embedded as in an exported artifact, unless ``with_manifest`` is False.
    """
    flatbuffer = _tiny_flatbuffer(size)
    path.write_bytes(flatbuffer)
    if with_manifest:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(LABELS_FILE, labels_to_text(TINY_LABELS))
            archive.writestr(MANIFEST_FILE, tiny_manifest(size).to_json())
            archive.writestr(CHECKSUM_FILE, hashlib.sha256(flatbuffer).hexdigest())
    return path


def write_tiny_bundle(folder: Path, size: int = 8) -> Path:
    """Write a bundle whose ``float32`` and ``int8`` artifacts are both the tiny model; both passed their check."""
    folder.mkdir(parents=True)
    artifacts = []
    for variant in (Variant.FLOAT32, Variant.INT8):
        data = write_tiny_model(folder / variant.file_name("tiny"), size).read_bytes()
        artifacts.append(
            Artifact(
                variant=variant,
                file=variant.file_name("tiny"),
                sha256=hashlib.sha256(data).hexdigest(),
                bytes=len(data),
                input=TensorSpec("image", "uint8", (1, size, size, 3), _TINY_SCALE, 0),
                output=TensorSpec("probabilities", "uint8", (1, len(TINY_LABELS)), _TINY_SCALE, 0),
                minimum_runtime="tflite 1.7.0",
                check=Check("fake 1", "validation", 10, 0.9, 0.9, 1.0, 0.0, 0.0, 1.0, passed=True),
            )
        )
    plain = tiny_manifest(size)
    manifest = Manifest(plain.model_name, plain.labels, plain.input, plain.output, None, tuple(artifacts))
    (folder / LABELS_FILE).write_text(labels_to_text(TINY_LABELS), encoding="utf-8")
    (folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def _tiny_flatbuffer(size: int) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    axes = schema.BufferT()
    axes.data = list(np.array([1, 2], np.int32).tobytes())
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.MEAN
    code.version = 2
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1], [2]
    operator.builtinOptionsType = schema.BuiltinOptions.ReducerOptions
    operator.builtinOptions = schema.ReducerOptionsT()
    graph = schema.SubGraphT()
    graph.inputs, graph.outputs, graph.operators = [0], [2], [operator]
    graph.tensors = [
        _tensor(schema, "image", [1, size, size, 3], schema.TensorType.UINT8, 0),
        _tensor(schema, "axes", [2], schema.TensorType.INT32, 1),
        _tensor(schema, "probabilities", [1, len(TINY_LABELS)], schema.TensorType.UINT8, 0),
    ]
    model = schema.ModelT()
    model.version, model.description = 3, "mean of each channel"
    model.operatorCodes, model.subgraphs, model.buffers = [code], [graph], [schema.BufferT(), axes]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _tensor(schema: Any, name: str, shape: list[int], dtype: int, buffer: int) -> Any:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, dtype, buffer
    if dtype == schema.TensorType.UINT8:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [_TINY_SCALE], [0]
    return tensor
