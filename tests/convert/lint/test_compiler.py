"""Running the Edge TPU compiler: a stand-in on PATH prints logs of the real format.

The logs follow those that users of the real compiler show in google-coral/edgetpu#427, #438, #708, #313 and #829.
"""

import json
import sys
import time

import pytest

from convert.edgetpu import CompilerLog, OperatorStatus, compile_for_edgetpu, find_compiler, parse_log
from edge_runtime.errors import EngineError, GateError, IntegrityError, ModelError, UsageError
from support.tflite_models import Operator, Tensor, build_model

HEADER = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 1641 ms.

Input model: model-int8.tflite
Input size: 4.41MiB
Output model: model-int8_edgetpu.tflite
Output size: 5.49MiB
On-chip memory used for caching model parameters: 1.92MiB
On-chip memory remaining for caching model parameters: 1.75KiB
Off-chip memory used for streaming uncached model parameters: 3.23MiB
Number of Edge TPU subgraphs: 1
Total number of operations: 136
Operation log: model-int8_edgetpu.log
"""
PARTLY = """
Model successfully compiled but not all operations are supported by the Edge TPU. [...] visit g.co/coral/model-reqs.
Number of operations that will run on Edge TPU: 27
Number of operations that will run on CPU: 109
"""
TABLE = "\nOperator                       Count      Status\n\n"
END = "Compilation child process completed within timeout period.\nCompilation succeeded! \n"


def rows(*entries):
    return TABLE + "".join(f"{name:<31}{count:<11}{status}\n" for name, count, status in entries)


ALL_MAPPED = HEADER + rows(("CONV_2D", 35, "Mapped to Edge TPU"), ("MEAN", 1, "Mapped to Edge TPU")) + END
HALF_ROWS = rows(
    ("CONV_2D", 26, "Mapped to Edge TPU"),
    ("CONV_2D", 106, "More than one subgraph is not supported"),
    ("QUANTIZE", 1, "Mapped to Edge TPU"),
    ("HARD_SWISH", 2, "Operation not supported"),
    ("DEQUANTIZE", 1, "Operation is working on an unsupported data type"),
)
HALF = HEADER + PARTLY + HALF_ROWS + END
ABORTED = "Edge TPU Compiler version 2.1.302470888\n\nInternal compiler error. Aborting!\n"
NOT_QUANTIZED = """Edge TPU Compiler version 15.0.340273435
Invalid model: model-int8.tflite
Model not quantized
"""
DYNAMIC = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.
ERROR: Attempting to use a delegate that only supports static-sized tensors with a graph that has dynamic-sized tensors.
Compilation failed: Model failed in Tflite interpreter. Please ensure model can be loaded/run in Tflite interpreter.
Compilation child process completed within timeout period.
Compilation failed!
"""
COMPILED = build_model([Tensor("in", (1, 4)), Tensor("out", (1, 4))], [Operator("edgetpu-custom-op", ["in"], ["out"])])
PLAIN = build_model([Tensor("in", (1, 4)), Tensor("out", (1, 4))], [Operator("RELU6", ["in"], ["out"])])

COMPILER = """#!{python}
import json, pathlib, sys, time
here = pathlib.Path(__file__).parent
(here / "arguments.json").write_text(json.dumps(sys.argv[1:]))
time.sleep({delay_s})
folder = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
stem = pathlib.Path(sys.argv[-1]).stem
if (here / "compiled").exists():
    (folder / (stem + "_edgetpu.tflite")).write_bytes((here / "compiled").read_bytes())
if (here / "log").exists():
    (folder / (stem + "_edgetpu.log")).write_text((here / "log").read_text())
sys.stdout.write((here / "output").read_text())
sys.exit({code})
"""


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model-int8.tflite"
    path.write_bytes(PLAIN)
    return path


@pytest.fixture
def compiler(install_compiler):
    def install(output, *, compiled=COMPILED, log=None, code=0, delay_s=0.0):
        folder = install_compiler(COMPILER.format(python=sys.executable, delay_s=delay_s, code=code))
        (folder / "output").write_text(output)
        if compiled is not None:
            (folder / "compiled").write_bytes(compiled)
        if log is not None:
            (folder / "log").write_text(log)
        return folder

    return install


@pytest.fixture
def work_dir(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


def test_a_log_is_read_whole():
    log = parse_log(HALF)
    assert log.version == "16.0.384591198"
    assert log.statuses[0] == OperatorStatus("CONV_2D", 26, "Mapped to Edge TPU")
    assert [status.status for status in log.statuses if not status.is_mapped] == [
        "More than one subgraph is not supported",
        "Operation not supported",
        "Operation is working on an unsupported data type",
    ]
    assert (log.mapped, log.total) == (27, 136)
    assert log.on_chip_bytes == round(1.92 * 1024 * 1024)
    assert log.on_chip_left_bytes == 1792
    assert log.streamed_bytes == round(3.23 * 1024 * 1024)


def test_a_log_without_a_table_is_refused():
    with pytest.raises(EngineError, match="no table"):
        parse_log(HEADER)
    assert CompilerLog("1", (), 0, 0, 0).share == 0


def test_a_model_that_maps_is_compiled(model, work_dir, compiler):
    folder = compiler(ALL_MAPPED)
    file, log = compile_for_edgetpu(model, work_dir)
    assert file == work_dir / "model-int8_edgetpu.tflite"
    assert file.read_bytes() == COMPILED
    assert log.share == 1
    assert json.loads((folder / "arguments.json").read_text()) == ["-s", "-o", str(work_dir), str(model)]
    # For an older Edge TPU runtime.
    compile_for_edgetpu(model, work_dir, min_runtime=13)
    assert '"-m", "13"' in (folder / "arguments.json").read_text()


def test_too_small_a_share_is_refused_with_the_operators_to_mend(model, work_dir, compiler):
    compiler(HALF)
    # One line, the causes before the operators behind them.
    operators = r"2 HARD_SWISH \(Operation not supported\).*106 CONV_2D"
    with pytest.raises(GateError, match=rf"\A.*27 of 136 operators \(20%\).*at least 90%.*{operators}.*\Z"):
        compile_for_edgetpu(model, work_dir)
    assert compile_for_edgetpu(model, work_dir, minimum_share=0.19)[1].mapped == 27


def test_nothing_mapped_is_refused_at_any_share(model, work_dir, compiler):
    compiler(HEADER + PARTLY + rows(("CONV_2D", 5, "Operation is working on an unsupported data type")))
    with pytest.raises(GateError, match="0 of 5 operators"):
        compile_for_edgetpu(model, work_dir, minimum_share=0)


def test_a_table_that_is_only_in_the_log_file_is_found(model, work_dir, compiler):
    table = rows(("CONV_2D", 3, "Mapped to Edge TPU"))
    compiler(HEADER + "See the operation log file for individual operation details.\n", log=table)
    assert compile_for_edgetpu(model, work_dir)[1].total == 3


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        (NOT_QUANTIZED, 1, "Model not quantized"),
        (DYNAMIC, 1, "dynamic-sized tensors"),
        (ABORTED, 1, "Internal compiler error"),
        (ABORTED, 0, "Internal compiler error"),  # some versions exit with 0 all the same
        ("", 127, "no output"),
    ],
)
def test_a_failed_compilation_is_one_sentence(output, code, words, model, work_dir, compiler):
    compiler(output, compiled=None, code=code)
    with pytest.raises(EngineError, match=rf"\A.*{words}.*edge-convert lint.*\Z"):
        compile_for_edgetpu(model, work_dir)


@pytest.mark.parametrize(("compiled", "words"), [(None, "wrote no"), (PLAIN, "without an operator for the Edge TPU")])
def test_a_success_without_a_compiled_file_is_not_believed(compiled, words, model, work_dir, compiler):
    compiler(ALL_MAPPED, compiled=compiled)
    with pytest.raises(EngineError, match=words):
        compile_for_edgetpu(model, work_dir)


def test_a_compiler_that_hangs_is_stopped(model, work_dir, compiler):
    compiler(ALL_MAPPED, delay_s=60)
    start = time.monotonic()
    with pytest.raises(EngineError, match=r"did not end within 0\.5 s"):
        compile_for_edgetpu(model, work_dir, timeout_s=0.5)
    assert time.monotonic() - start < 10


def test_bad_models_never_reach_the_compiler(tmp_path, work_dir, compiler):
    folder = compiler(ALL_MAPPED)
    compiled, noise = tmp_path / "compiled.tflite", tmp_path / "noise.tflite"
    compiled.write_bytes(COMPILED)
    noise.write_bytes(b"noise" * 10)
    for path, error in ((compiled, UsageError), (noise, IntegrityError), (tmp_path / "missing.tflite", ModelError)):
        with pytest.raises(error):
            compile_for_edgetpu(path, work_dir)
    assert not (folder / "arguments.json").exists()


@pytest.mark.parametrize(("machine", "here"), [("x86_64", False), ("aarch64", True)])
def test_without_the_compiler_one_sentence_says_what_to_install(machine, here, model, work_dir, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("platform.machine", lambda: machine)
    for call in (find_compiler, lambda: compile_for_edgetpu(model, work_dir)):
        package = r"Debian package edgetpu-compiler as coral\.ai/docs/edgetpu/compiler"
        with pytest.raises(EngineError, match=package) as missing:
            call()
        assert ("not on this machine (aarch64)" in str(missing.value)) is here
