"""Time one tool over a list of images: ``python tools.py REQUEST.json``, by the Python of any environment.

The request names one of `OPENERS`. An opener takes the request and gives the runtime with its version, a function from
the path of an image to its answer, and facts about the model. The answer is a label or the scores of all labels, and
the nanoseconds of inference alone, or None where the tool does not show them. The last line of standard output is the
result, as JSON.

Each tool lives in an environment of its own, so that only its opener imports it, and nothing of edgekit but for its own
row.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_REASON_CHARACTERS = 300
_Classify = Callable[[str], tuple[Any, int | None]]
_Opened = tuple[str, _Classify, dict[str, Any]]
_kept: list[Any] = []


def open_edgekit(request: dict[str, Any]) -> _Opened:
    """Open edgekit's Python interface: the stages of ``Classifier.classify``, one by one."""
    from edge_runtime.classifier import Classifier
    from edge_runtime.preprocess import load_prepared

    classifier = Classifier(request["model"], threads=request["threads"])

    def classify(path: str) -> tuple[str, int]:
        prepared_hwc_rgb_u8 = load_prepared(Path(path), classifier.input_spec)
        started_ns = time.perf_counter_ns()
        probabilities = classifier.probabilities(prepared_hwc_rgb_u8)
        inference_ns = time.perf_counter_ns() - started_ns
        return classifier.rank(probabilities)[0].label, inference_ns

    return f"{classifier.engine.name} {classifier.engine.version}", classify, {}


def open_litert(request: dict[str, Any]) -> _Opened:
    """Open a plain LiteRT loop after Google's Raspberry Pi example: Pillow scales, one call an image."""
    import importlib.metadata

    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from PIL import Image

    interpreter = Interpreter(model_path=request["model"], num_threads=request["threads"])
    interpreter.allocate_tensors()
    model_input, model_output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    _, height, width, _ = (int(side) for side in model_input["shape"])
    scale, zero_point = model_output["quantization"]

    def classify(path: str) -> tuple[Any, int]:
        image = Image.open(path).convert("RGB").resize((width, height))
        tensor = np.asarray(image, model_input["dtype"])[np.newaxis]
        started_ns = time.perf_counter_ns()
        interpreter.set_tensor(model_input["index"], tensor)
        interpreter.invoke()
        output = interpreter.get_tensor(model_output["index"])[0]
        inference_ns = time.perf_counter_ns() - started_ns
        return (scale * (output.astype(np.float32) - zero_point) if scale else output), inference_ns

    return f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}", classify, {}


def open_onnxruntime(request: dict[str, Any]) -> _Opened:
    """Open a plain ONNX Runtime loop: Pillow scales, one session, one call an image."""
    import numpy as np
    import onnxruntime
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    session = onnxruntime.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    width, height = request["size_wh"]

    def classify(path: str) -> tuple[Any, int]:
        tensor = np.asarray(Image.open(path).convert("RGB").resize((width, height)), np.uint8)[np.newaxis]
        started_ns = time.perf_counter_ns()
        output = session.run(None, {name: tensor})[0][0]
        return output, time.perf_counter_ns() - started_ns

    return f"onnxruntime {onnxruntime.__version__}", classify, {}


def open_mediapipe(request: dict[str, Any]) -> _Opened:
    """Open MediaPipe's ``ImageClassifier`` after its guide: it reads the file, scales and ranks by itself."""
    import mediapipe as mp  # type: ignore[import-not-found]  # it lives in an environment of its own
    from mediapipe.tasks.python import BaseOptions  # type: ignore[import-not-found]
    from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions  # type: ignore[import-not-found]

    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=request["model"]), max_results=3)
    classifier = ImageClassifier.create_from_options(options)
    _kept.append(classifier)  # one that failed and is collected during another one's call waits for itself forever

    def classify(path: str) -> tuple[str, None]:
        result = classifier.classify(mp.Image.create_from_file(path))
        return str(result.classifications[0].categories[0].category_name), None

    return f"mediapipe {mp.__version__}", classify, {}


def open_keras(request: dict[str, Any]) -> _Opened:
    """Open Keras after its guides: ``load_img`` scales, ``model.predict`` of a batch of one."""
    import keras
    import numpy as np

    model = keras.saving.load_model(request["model"], compile=False, safe_mode=True)
    width, height = request["size_wh"]

    def classify(path: str) -> tuple[Any, int]:
        batch = np.asarray(keras.utils.load_img(path, target_size=(height, width)))[np.newaxis]
        started_ns = time.perf_counter_ns()
        output = model.predict(batch, verbose=0)[0]
        return output, time.perf_counter_ns() - started_ns

    facts = {"parameters": model.count_params() / 1e6, "gflops": 2e-9 * _multiply_adds(model)}
    return f"keras {keras.__version__} on {keras.backend.backend()}", classify, facts


def _multiply_adds(model: Any) -> int:
    """Count the multiplications of one inference in convolutions and dense layers."""
    count = 0
    for layer in model._flatten_layers(include_self=False, recursive=True):
        kernel = getattr(layer, "kernel", None)
        if kernel is not None and not hasattr(layer, "layers"):
            count += math.prod(kernel.shape) * math.prod(layer.output.shape[1:-1])
    return count


def open_ultralytics(request: dict[str, Any]) -> _Opened:
    """Open Ultralytics' classification ``predict`` with its smallest model, built from its YAML with random weights.

    Its answers mean nothing; its times are those of trained weights. ``format`` of the request is ``torch``, or what
    its own exporter makes: ``onnx`` or ``litert``.
    """
    scratch = Path(request["scratch"]) / "ultralytics"
    scratch.mkdir(exist_ok=True)
    # It would install packages and look for a network while it is timed.
    os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true", YOLO_CONFIG_DIR=str(scratch))
    os.chdir(scratch)
    _import_torchvision()
    import torch  # type: ignore[import-not-found]  # it lives in an environment of its own
    import ultralytics  # type: ignore[import-not-found]

    torch.manual_seed(0)
    size, names = int(request["size_wh"][0]), request["labels"]
    model, facts = _ultralytics_model(ultralytics, scratch, request["format"], size, len(names))

    def classify(path: str) -> tuple[str, int]:
        result = model.predict(path, imgsz=size, verbose=False, device="cpu")[0]
        return names[int(result.probs.top1)], int(result.speed["inference"] * 1e6)

    return f"ultralytics {ultralytics.__version__}, torch {torch.__version__}", classify, facts


def _import_torchvision() -> None:
    """Import torchvision, also one that was built for another PyTorch.

    PyTorch without CUDA beside a torchvision with it lacks the operators of torchvision, and the import stops at the
    first one's name. A classifier uses none of them, so that their names are enough.
    """
    import torch

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # its operators are removed when it is collected
        importlib.import_module("torchvision")


def _ultralytics_model(
    ultralytics: Any, scratch: Path, wanted: str, size: int, classes: int
) -> tuple[Any, dict[str, Any]]:
    """Build the model, or open its export, which is made once; give its size too."""
    plan = scratch / "yolo26n-cls.yaml"
    if not plan.exists():
        published = Path(ultralytics.__file__).parent / "cfg/models/26/yolo26-cls.yaml"
        plan.write_text(published.read_text(encoding="utf-8").replace("nc: 1000", f"nc: {classes}"), encoding="utf-8")
    exported = {"onnx": "yolo26n-cls.onnx", "litert": "yolo26n-cls.tflite"}.get(wanted)
    if exported and (scratch / exported).exists():
        return ultralytics.YOLO(str(scratch / exported), task="classify"), {}
    model = ultralytics.YOLO(str(plan), task="classify")
    facts = {"parameters": sum(weights.numel() for weights in model.model.parameters()) / 1e6}
    if not exported:
        from ultralytics.utils.torch_utils import get_flops  # type: ignore[import-not-found]

        return model, {**facts, "gflops": get_flops(model.model, size) or None}
    made = Path(model.export(format=wanted, imgsz=size, device="cpu"))
    return ultralytics.YOLO(str(made.rename(scratch / exported)), task="classify"), {}


OPENERS = {
    "edgekit": open_edgekit,
    "litert": open_litert,
    "onnxruntime": open_onnxruntime,
    "mediapipe": open_mediapipe,
    "keras": open_keras,
    "ultralytics": open_ultralytics,
}


def label_of(answer: Any, labels: Sequence[str], threshold: float) -> str:
    """Find the label of an answer: itself, the first of the largest scores, or by the threshold for a single score."""
    if isinstance(answer, str):
        return answer
    scores = [float(score) for score in answer]
    if len(scores) == 1:
        return labels[int(scores[0] >= threshold)]
    return labels[scores.index(max(scores))]


def time_images(classify: _Classify, request: dict[str, Any]) -> dict[str, Any]:
    """Time each image once, from file to label; one that fails is listed by its index and is not timed."""
    answers: list[str | None] = []
    total_ns: list[int | None] = []
    inference_ns: list[int | None] = []
    errors: dict[str, str] = {}
    cpu_started_ns = time.process_time_ns()
    for index, path in enumerate(request["images"]):
        started_ns = time.perf_counter_ns()
        label, total, inner = None, None, None
        try:
            answer, inner = classify(path)
            label = label_of(answer, request["labels"], request["threshold"])
            total = time.perf_counter_ns() - started_ns
        except Exception as error:  # noqa: BLE001  a foreign tool may raise anything; its reason is the result
            inner = None
            errors[str(index)] = reason(error)
        answers.append(label)
        total_ns.append(total)
        inference_ns.append(inner)
    cpu_ns = time.process_time_ns() - cpu_started_ns
    return {"answers": answers, "total_ns": total_ns, "inference_ns": inference_ns, "errors": errors, "cpu_ns": cpu_ns}


def try_awkward(opener: Callable[[dict[str, Any]], _Opened], request: dict[str, Any]) -> list[str]:
    """Classify each awkward file: ``answered`` or the reason, and whether the tool still works after it."""
    _, classify, _ = opener(request)
    outcomes = []
    for path in request["awkward"]:
        try:
            classify(path)
        except Exception as error:  # noqa: BLE001  as above
            outcome = f"refused: {reason(error)}"
        else:
            outcome = "answered"
        try:
            classify(request["images"][0])
        except Exception as error:  # noqa: BLE001  as above
            outcome = f"{outcome}; then it answers no other image either: {reason(error)}"
            _, classify, _ = opener(request)
        outcomes.append(outcome)
    return outcomes


def reason(error: Exception) -> str:
    """Write an error as one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:_REASON_CHARACTERS]


def peak_bytes() -> int | None:
    """Read the largest resident memory of this process, or None where the kernel does not provide it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(peaks[0]) * 1024 if peaks else None


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Serve the request; the time of the first answer is of the clock that all processes share."""
    opener = OPENERS[request["peer"]]
    try:
        if request["awkward"]:
            return {"awkward": try_awkward(opener, request)}
        runtime, classify, facts = opener(request)
        answer, _ = classify(request["images"][0])
        label_of(answer, request["labels"], request["threshold"])
        answered_ns = time.monotonic_ns()
        for path in request["images"][: request["warm_up"]]:
            classify(path)
    except Exception as error:  # noqa: BLE001  as above
        return {"error": reason(error)}
    seen = time_images(classify, request)
    return {"runtime": runtime, "facts": facts, "answered_ns": answered_ns, **seen, "peak_bytes": peak_bytes()}


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose modules no tool must find
    result = run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(f"\n{json.dumps(result)}", flush=True)
    if _kept:
        os._exit(0)  # what is kept must not be collected at the end either
