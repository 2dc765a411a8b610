"""Ultralytics' classification ``predict`` with its smallest model, built from its YAML with random weights.

Its answers mean nothing; what it takes is the same as with trained weights. ``format`` of the request says what runs:
``torch``, or what its own exporter made: ``onnx`` or ``litert``.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# It would install packages and look for a network while it is timed.
os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true")

_OPERATORS = ("nms", "qnms")
_kept: list[Any] = []


def import_torchvision() -> None:
    """Import torchvision, also one that was built for another PyTorch.

    PyTorch without CUDA beside a torchvision with it lacks the operators of torchvision, and the import stops at the
    first one's name. Of these a classifier uses none, so that their names are enough.
    """
    import torch  # type: ignore[import-not-found]  # it lives in an environment of its own

    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in _OPERATORS:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept.append(library)  # once it is collected, its operators are gone
        importlib.import_module("torchvision")


def open_peer(request: dict[str, Any]) -> tuple[str, Callable[[str], tuple[str, int]], dict[str, Any]]:
    """Build or open the model; see `loop`."""
    scratch = Path(request["scratch"]) / "ultralytics"
    scratch.mkdir(exist_ok=True)
    os.environ["YOLO_CONFIG_DIR"] = str(scratch)
    os.chdir(scratch)
    import_torchvision()
    import torch
    import ultralytics  # type: ignore[import-not-found]

    torch.manual_seed(0)
    size = int(request["size_wh"][0])
    model, facts = _model(ultralytics, scratch, request["format"], size, len(request["labels"]))
    names = request["labels"]

    def classify(path: str) -> tuple[str, int]:
        result = model.predict(path, imgsz=size, verbose=False, device="cpu")[0]
        return names[int(result.probs.top1)], int(result.speed["inference"] * 1e6)

    return f"ultralytics {ultralytics.__version__}, torch {torch.__version__}", classify, facts


def _model(ultralytics: Any, scratch: Path, wanted: str, size: int, classes: int) -> tuple[Any, dict[str, Any]]:
    """The model, and its size; an export is made once and then found."""
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
