"""A conversion record with invented figures, without a conversion."""

import hashlib
from dataclasses import replace

import numpy as np

from convert.gate import Reference, compare
from convert.record import CalibrationPoint, CalibrationRecord, ConversionRecord, Step, VariantRecord
from edge_runtime.contract import Artifact, Head, OutputSpec, TensorSpec, Variant

# Of a MobileNetV2 0.35 at 160 pixels, about: error of the logits, bytes, milliseconds.
_FIGURES = {
    Variant.FLOAT32: (1e-6, 1_650_000, 0.71),
    Variant.FLOAT16: (1e-3, 850_000, 0.73),
    Variant.DYNAMIC: (0.1, 590_000, 1.21),
    Variant.INT8: (0.35, 640_000, 0.98),
    Variant.INT8_PER_TENSOR: (2.6, 600_000, 0.97),
    Variant.INT16X8: (0.05, 660_000, 3.9),
    Variant.ONNX_FLOAT32: (1e-6, 1_640_000, 0.86),
    Variant.ONNX_INT8: (0.45, 610_000, 0.69),
}
_INTEGER = (Variant.INT8, Variant.INT8_PER_TENSOR, Variant.INT16X8, Variant.ONNX_INT8)


def sample_record(labels=("cat", "dog"), images=400, variants=tuple(_FIGURES), left_out=(), max_drop_points=1.0):
    """A record of these variants, checked on ``images`` images; per-tensor int8 loses several points, others little."""
    rng = np.random.default_rng(7)
    truth = rng.integers(0, len(labels), images)
    logits = rng.normal(0, 1, (images, len(labels)))
    logits[np.arange(images), truth] += 3.2
    reference = Reference("validation", truth, _softmax(logits), _softmax(logits[:8]))
    calibration = CalibrationRecord(
        images=500,
        shared=0,
        method="min-max",
        seed=0,
        sha256=hashlib.sha256(b"made up").hexdigest(),
        per_class={label: 500 // len(labels) for label in labels},
        points=tuple(
            CalibrationPoint(count, accuracy, accuracy + 0.01)
            for count, accuracy in ((1, 0.71), (10, 0.935), (50, 0.952), (100, 0.957), (200, 0.955), (500, 0.957))
        ),
    )
    return ConversionRecord(
        model_name="pets",
        labels=tuple(labels),
        origin="runs/pets, recipe mobilenetv2, 160 x 160 pixels",
        split=reference.split,
        check_images=images,
        max_drop_points=max_drop_points,
        calibration=calibration,
        variants=tuple(_variant(entry, reference, logits, labels, max_drop_points) for entry in variants),
        left_out=tuple(left_out),
        machine="Intel Xeon at 2.60 GHz, 2 cores, x86_64",
        seconds=63.4,
        settings={"repair": "auto", "calibration method": "min-max", "max drop": f"{max_drop_points:g} points"},
        versions={"edgekit": "0.1.0", "tensorflow": "2.21.0", "ai-edge-litert": "2.3.0", "onnxruntime": "1.31.1"},
    )


def with_figures(record, name, **figures):
    """Change figures of one variant: ``latency_ms``, ``bytes``, ``passed``, ``drop_points``, ``max_drop_points``."""
    variants = []
    for variant in record.variants:
        if variant.artifact.variant is name:
            old = variant.comparison.check
            limit = figures.get("max_drop_points", old.max_drop_points)
            check = replace(old, passed=figures.get("passed", old.passed), max_drop_points=limit)
            drop = figures.get("drop_points", variant.comparison.drop_points)
            variant = replace(
                variant,
                artifact=replace(variant.artifact, bytes=figures.get("bytes", variant.artifact.bytes), check=check),
                comparison=replace(variant.comparison, check=check, drop_points=drop),
                latency_ms=figures.get("latency_ms", variant.latency_ms),
            )
        variants.append(variant)
    return replace(record, variants=tuple(variants))


def _variant(variant, reference, logits, labels, max_drop_points):
    error, size, latency_ms = _FIGURES[variant]
    rng = np.random.default_rng(len(variant.value))
    found = _softmax(logits + rng.normal(0, error, logits.shape))
    is_onnx = variant.suffix == ".onnx"
    engine = "onnxruntime 1.31.1" if is_onnx else "litert 2.3.0"
    choices = {"variant": variant, "engine": engine, "max_drop_points": max_drop_points}
    comparison = compare(reference, found, found[:8], OutputSpec(Head.SOFTMAX, 0.0), labels, **choices)
    check = comparison.check
    artifact = Artifact(
        variant=variant,
        file=variant.file_name("pets"),
        sha256=hashlib.sha256(variant.value.encode()).hexdigest(),
        bytes=size,
        input=TensorSpec("image", "uint8", (1, 160, 160, 3), 0.0, 0),
        output=TensorSpec("probabilities", "float32", (1, len(labels)), 0.0, 0),
        minimum_runtime="onnx opset 18" if is_onnx else "tflite 2.4.0",
        check=check,
    )
    accuracy, agreement = check.accuracy, check.agreement
    repaired = "2 layers kept in float32: block_1_depthwise, Conv1"
    steps = (
        Step("nearest rounding", accuracy - 0.031, agreement - 0.04, size - 9000, latency_ms, passed=False),
        Step("calibrated rounding", accuracy - 0.004, agreement, size - 9000, latency_ms, check.passed),
        Step(repaired, accuracy, agreement, size, latency_ms + 0.06, check.passed),
    )
    return VariantRecord(
        artifact=artifact,
        comparison=comparison,
        latency_ms=latency_ms,
        steps=steps if variant in _INTEGER else (),
        notes=("opens in tflite-runtime 2.14, as requested",) if variant is Variant.INT8_PER_TENSOR else (),
        lowest_runtimes=("onnxruntime 1.14",) if is_onnx else ("tflite-runtime 2.4.0", "litert 1.0.1"),
    )


def _softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
