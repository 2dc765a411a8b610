"""``edge-convert run --variant edgetpu`` with a stand-in for the compiler, which is not for every machine."""

import re
import sys
from pathlib import Path

import pytest

import convert.cli
from convert.lint.edgetpu import is_compiled
from convert.record import RECORD_FILE, ConversionRecord
from convert.tflite_model import read_model, read_operators
from edge_runtime.contract import Variant
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.model.embedded import embedded_manifest
from support.programs import call_cli

# It does what the compiler does to a file: one custom operator in place of all that it maps, and no metadata.
COMPILER = """#!{python}
import pathlib, sys
from ai_edge_litert import schema_py_generated as schema
from convert.tflite_model import pack_model, unpack_model

source = pathlib.Path(sys.argv[-1])
folder = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
data = source.read_bytes()
assert b"labels.txt" not in data, "the compiler is given the file from before the metadata"
model = unpack_model(data)
graph = model.subgraphs[0]
count = len(graph.operators)
code, operator = schema.OperatorCodeT(), schema.OperatorT()
code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
code.customCode, code.version = "edgetpu-custom-op", 1
operator.opcodeIndex, operator.inputs, operator.outputs = 0, graph.inputs, graph.outputs
model.operatorCodes, graph.operators, model.metadata = [code], [operator], []
(folder / (source.stem + "_edgetpu.tflite")).write_bytes(pack_model(model))
on_cpu = count - {mapped} if {mapped} else 0
print("Edge TPU Compiler version 16.0.384591198")
print("Model compiled successfully in 12 ms.")
print()
print("Operator                       Count      Status")
print()
print(f"CONV_2D                        {{count - on_cpu:<11}}Mapped to Edge TPU")
if on_cpu:
    print(f"HARD_SWISH                     {{on_cpu:<11}}Operation not supported")
"""


@pytest.fixture
def converted(run_program, small_run, install_compiler, tmp_path):
    """Convert the small run for the processor and the Edge TPU: the finished program and the bundle."""
    options = ["--out", tmp_path / "bundle", "--max-drop", "100", "--variant", "int8", "--variant", "edgetpu"]

    def convert_with(mapped=None):
        install_compiler(COMPILER.format(python=sys.executable, mapped=mapped))
        return run_program("edge-convert", "run", small_run, *options), tmp_path / "bundle"

    return convert_with


def test_a_compiled_file_is_in_the_bundle_with_metadata_and_the_figures_of_its_twin(converted, run_program):
    done, bundle = converted()
    assert done.returncode == 0, done.stderr
    int8, compiled = read_bundle_manifest(bundle).artifacts
    assert (int8.variant, compiled.variant) == (Variant.INT8, Variant.EDGETPU)
    file = bundle / "colors-edgetpu.tflite"
    assert is_compiled(read_operators(read_model(file)))
    embedded = embedded_manifest(file)
    assert embedded.labels == ("blue", "red")
    assert compiled.minimum_runtime == "tflite with edgetpu-custom-op, 1.5.0"
    assert (compiled.input.dtype, compiled.output.dtype) == ("uint8", "uint8")
    # Without an accelerator the twin on the processor is what can be measured; its time says nothing.
    assert compiled.check.engine.startswith("litert")
    assert compiled.check.agreement >= 0.5
    record = ConversionRecord.from_json((bundle / RECORD_FILE).read_text())
    assert [entry.latency_ms > 0 for entry in record.variants] == [True, False]
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("edgetpu ")]
    assert (" – " in row, " ms " in row) == (True, False)
    # The bundle still runs where there is no accelerator.
    classified = run_program("edge-run", "inspect", bundle)
    assert classified.returncode == 0, classified.stderr


def test_too_few_operators_on_the_edge_tpu_leave_the_file_out(converted):
    done, bundle = converted(mapped=3)
    assert done.returncode == 8
    assert "error: edgetpu: could not be built or run; not in the bundle" in done.stderr
    assert "edgetpu was left out" in done.stdout
    assert "would run on the Edge TPU, at least 90% are required" in " ".join(done.stdout.split())
    assert "HARD_SWISH (Operation not supported)" in " ".join(done.stdout.split())
    # What the sentence names is the user's, not a file of the work folder that is gone.
    assert "for-edgetpu.tflite" not in done.stdout
    assert [artifact.variant for artifact in read_bundle_manifest(bundle).artifacts] == [Variant.INT8]
    assert not (bundle / "colors-edgetpu.tflite").exists()
    record = ConversionRecord.from_json((bundle / RECORD_FILE).read_text())
    assert [entry.variant for entry in record.left_out] == ["edgetpu"]


def test_without_the_compiler_nothing_is_begun(monkeypatch, capsys, tmp_path):
    """Not even the model is looked at, which here is none."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convert.conversion.read_model", lambda *_, **__: pytest.fail("the model was read"))
    arguments = ["run", "no-such-run", "--variant", "edgetpu"]
    code, _, err = call_cli(convert.cli.cli, monkeypatch, capsys, "edge-convert", *arguments)
    assert code == 5
    assert re.fullmatch(r"error: edgetpu_compiler is not on PATH: install the Debian package edgetpu-compiler.*\n", err)
    assert list(Path.cwd().iterdir()) == []
