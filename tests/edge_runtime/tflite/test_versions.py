"""Operators against the installed runtime: one that it lacks is named."""

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.engines import import_runtime, open_engine
from edge_runtime.errors import EngineError
from edge_runtime.tflite.validation import OperatorCode
from edge_runtime.tflite.versions import check_runtime_supports
from support.tflite_models import Operator, Tensor, build_model

DENSE_12 = OperatorCode("FULLY_CONNECTED", 12, is_custom=False)
FUTURE = OperatorCode("FULLY_CONNECTED", 40, is_custom=False)


@pytest.mark.parametrize(
    ("code", "runtime", "release", "words"),
    [
        (DENSE_12, "tflite-runtime", "2.14.0", "has it up to version 10 only; use LiteRT"),
        (DENSE_12, "tflite-runtime", "2.10.0", "tflite-runtime 2.10.0 has it up to version 9 only; use LiteRT"),
        (FUTURE, "litert", "2.3.0", "update ai-edge-litert"),
        (FUTURE, "litert", "2.0.1", "litert 2.0.1 cannot run operator 1, FULLY_CONNECTED version 40"),
        (OperatorCode("FlexErf", 1, is_custom=True), "litert", "2.3.0", "only a runtime that brings TensorFlow has"),
        (OperatorCode("Mine", 1, is_custom=True), "tflite-runtime", "2.14.0", "replace the layer that it comes from"),
    ],
)
def test_what_a_runtime_cannot_have_is_one_sentence(code, runtime, release, words, tmp_path):
    add = OperatorCode("ADD", 1, is_custom=False)
    with pytest.raises(EngineError, match=words) as caught:
        check_runtime_supports(tmp_path / "m.tflite", [add, code], runtime, release)
    for word in ("m.tflite: ", code.name, f"version {code.version}", f"{runtime} {release}"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "runtime", "release"),
    [
        (DENSE_12, "litert", "2.3.0"),
        (DENSE_12, "litert", "2.0.1"),
        (FUTURE, "litert", "2.3.1"),
        (FUTURE, "litert", "3.0"),
        (FUTURE, "litert", "2.4.0rc1"),
        (FUTURE, "litert", "unknown"),
        (DENSE_12, "tflite-runtime", "2.17.0"),
        (OperatorCode("TFLite_Detection_PostProcess", 1, is_custom=True), "litert", "2.3.0"),
    ],
)
def test_a_runtime_that_may_have_it_decides_for_itself(code, runtime, release, tmp_path):
    check_runtime_supports(tmp_path / "m.tflite", [code], runtime, release)


def test_a_model_that_the_runtime_refuses_names_its_operator(tmp_path):
    path = tmp_path / "m.tflite"
    tensors = [Tensor(name, (1, 8, 8, 3), "float32", None) for name in ("image", "answer")]
    path.write_bytes(build_model(tensors, [Operator("ABS", ["image"], ["answer"], 77)]))
    with pytest.raises(EngineError, match=r"operator 0, ABS version 77: litert [\d.]+ has it up to version 5"):
        open_engine(path)


def test_the_version_of_a_runtime_is_found_without_its_metadata_being_read():
    installed = importlib.metadata.version("ai-edge-litert")
    assert import_runtime(Path("x.tflite"), "litert") == f"litert {installed}"


def test_a_closed_engine_says_so(tiny_bundle):
    engine = open_engine(tiny_bundle / "tiny-int8.tflite")
    assert engine.accelerator is None
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="litert was closed"):
        engine.invoke(np.zeros((1, 8, 8, 3), np.uint8))
