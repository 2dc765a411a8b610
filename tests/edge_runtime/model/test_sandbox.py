"""The sandbox: a crash stays in the child process, and a file that has passed does not run there again."""

import hashlib
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.classifier import Classifier
from edge_runtime.contract import MANIFEST_FILE, Crop
from edge_runtime.errors import EngineError, IntegrityError
from edge_runtime.model import sandbox
from edge_runtime.model.bundle import PASSES_FOLDER, ModelOptions, forget_passes
from edge_runtime.model.sandbox import SandboxOutcome, SandboxResult, try_models
from edge_runtime.testing import TINY_LABELS, write_tiny_model
from edge_runtime.tflite.validation import read_structure
from support.programs import run_code
from support.tflite_models import Operator, Tensor, build_model

OPTIONS = ModelOptions(labels=TINY_LABELS, crop=Crop.STRETCH)
pytestmark = pytest.mark.usefixtures("cache")

# A runtime that does what the last bytes of the model say.
FAKE_INTERPRETER = """
import os, signal, time
import numpy as np

class Interpreter:
    def __init__(self, model_path, **others):
        self.wish = open(model_path, "rb").read()[-4:]
    def allocate_tensors(self):
        pass
    def get_input_details(self):
        return [{"name": "a", "index": 0, "shape": [1, 8, 8, 3], "dtype": np.uint8, "quantization": (0.0, 0)}]
    get_output_details = get_input_details
    def set_tensor(self, index, value):
        self.seen = value
    def invoke(self):
        print("native noise", flush=True)
        if self.wish == b"TRAP":
            os.kill(os.getpid(), signal.SIGABRT)
        elif self.wish == b"QUIT":
            os._exit(3)
        elif self.wish == b"HANG":
            time.sleep(600)
        elif self.wish == b"FILL":
            self.seen = np.ones(5 << 30, np.uint8)
    def get_tensor(self, index):
        return self.seen
"""


@pytest.fixture(autouse=True)
def _no_pass_known(monkeypatch):
    monkeypatch.delenv("EDGEKIT_TRIAL", raising=False)
    forget_passes()


@pytest.fixture
def untrusted(tmp_path):
    return write_tiny_model(tmp_path / "untrusted.tflite", with_manifest=False)


@pytest.fixture
def crasher(tmp_path):
    """A sound FlatBuffer whose only operator calls its own graph, until LiteRT has no stack left."""
    tensors = [
        Tensor("image", (1, 8, 8, 3), "uint8"),
        Tensor("yes", (1,), "bool", None, b"\1"),
        Tensor("answer", (1, 3), "uint8"),
    ]
    options = {"kind": "IfOptions", "thenSubgraphIndex": 0, "elseSubgraphIndex": 0}
    path = tmp_path / "crasher.tflite"
    path.write_bytes(build_model(tensors, [Operator("IF", ["yes", "image"], ["answer"], 1, options)]))
    return path


@pytest.fixture
def children(monkeypatch):
    """Counts the child processes."""
    started = []
    monkeypatch.setattr(sandbox, "try_models", lambda *job, **more: started.append(1) or try_models(*job, **more))
    return started


def test_a_crash_stays_in_the_child(crasher, untrusted):
    assert read_structure(crasher).codes[0].name == "IF"
    crashed, fine = try_models([crasher, untrusted])
    assert (crashed.path, crashed.outcome, crashed.ok) == (crasher, SandboxOutcome.CRASHED, False)
    assert "SIGSEGV" in crashed.reason
    assert fine == SandboxResult(untrusted, SandboxOutcome.OK)
    with pytest.raises(IntegrityError, match=r"crashed litert [\d.]+ in a trial run \(signal 11, SIGSEGV\)"):
        Classifier(crasher, options=OPTIONS)


def test_refusals_carry_the_reason_and_its_error(untrusted, tmp_path, real_data):
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(untrusted.read_bytes()[:200])
    no_model = tmp_path / "no.onnx"
    no_model.write_bytes(b"hello")
    unknown = real_data("coral/invalid_models/model_invoking_error.tflite")
    results = try_models([cut, no_model, unknown, tmp_path / "missing.tflite", untrusted])
    assert [result.error for result in results] == [*["IntegrityError"] * 2, "EngineError", "ModelError", None]
    assert [result.outcome.value for result in results] == ["refused"] * 4 + ["ok"]
    words_of_all = ("not a whole TFLite", "cannot open it", "fake-op-double", "cannot be read")
    for result, words in zip(results, words_of_all, strict=False):
        assert words in result.reason
        assert str(result.path) in result.reason


@pytest.fixture
def fake_runtime(tmp_path):
    fake = tmp_path / "site" / "ai_edge_litert"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "interpreter.py").write_text(FAKE_INTERPRETER)
    return fake.parent


def test_every_outcome_has_a_reason(untrusted, tmp_path, monkeypatch, fake_runtime):
    monkeypatch.setattr(sys, "path", [str(fake_runtime), *sys.path])
    paths = []
    for wish in ("TRAP", "QUIT", "HANG", "FILL", "FINE"):
        paths.append(tmp_path / f"{wish}.tflite")
        paths[-1].write_bytes(untrusted.read_bytes() + wish.encode())
    results = try_models(paths, timeout_s=5.0)
    assert [result.outcome.value for result in results] == ["crashed", "crashed", "timed out", "refused", "ok"]
    assert [result.reason for result in results[:3]] == ["signal 6, SIGABRT", "exit code 3", "after 5 seconds"]
    assert "needs more memory" in results[3].reason


def test_no_models_need_no_child(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    assert try_models([]) == []


def test_a_pass_is_recorded_for_this_very_file(untrusted, children, cache):
    for _ in range(2):
        Classifier(untrusted, options=OPTIONS).close()
    assert len(children) == 1
    forget_passes()  # as a new process
    Classifier(untrusted, options=OPTIONS).close()
    assert len(children) == 1
    assert len(list((cache / PASSES_FOLDER).iterdir())) == 1
    untrusted.write_bytes(untrusted.read_bytes() + b"x")
    Classifier(untrusted, options=OPTIONS).close()
    assert len(children) == 2


@pytest.mark.parametrize("content", [b"", b"ok\n", b"\xff" * 200, None])
def test_a_damaged_record_counts_as_none(untrusted, children, cache, content):
    Classifier(untrusted, options=OPTIONS).close()
    (entry,) = (cache / PASSES_FOLDER).iterdir()
    entry.write_bytes(entry.read_bytes()[:-1] if content is None else content)
    forget_passes()
    Classifier(untrusted, options=OPTIONS).close()
    assert len(children) == 2


def test_a_failure_is_not_recorded(crasher, children):
    for _ in range(2):
        with pytest.raises(IntegrityError):
            Classifier(crasher, options=OPTIONS)
    assert len(children) == 2


def test_without_a_cache_folder_it_still_runs(untrusted, children, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        Classifier(untrusted, options=OPTIONS).close()
    assert len(children) == 1


def test_a_file_with_a_checksum_runs_in_the_sandbox_once_too(tiny_bundle, children, crasher, tmp_path):
    """Anyone can write a SHA-256 into a file or beside it."""
    for _ in range(2):
        Classifier(tiny_bundle).close()
        Classifier(tiny_bundle / "tiny-int8.tflite").close()
    assert len(children) <= 2
    assert children
    bundle = shutil.copytree(tiny_bundle, tmp_path / "evil")
    text = (bundle / MANIFEST_FILE).read_text()
    for path in bundle.glob("*.tflite"):
        signed = hashlib.sha256(path.read_bytes()).hexdigest()
        path.write_bytes(crasher.read_bytes())
        text = text.replace(signed, hashlib.sha256(crasher.read_bytes()).hexdigest())
    (bundle / MANIFEST_FILE).write_text(text)
    with pytest.raises(IntegrityError, match="SIGSEGV"):
        Classifier(bundle)


_UNDER_A_LIMIT = """
import resource, sys
from pathlib import Path
from edge_runtime.model.sandbox import try_models
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
print(try_models([Path(sys.argv[1])])[0])
"""


def test_the_memory_is_limited_under_any_limit_of_the_shell(tmp_path, untrusted, fake_runtime):
    path = tmp_path / "FILL.tflite"
    path.write_bytes(untrusted.read_bytes() + b"FILL")
    said = run_code(f"import sys; sys.path.insert(0, {str(fake_runtime)!r})\n{_UNDER_A_LIMIT}", path).stdout
    assert "needs more memory" in said
    assert "limited=True" in said


def test_a_pass_without_a_memory_limit_is_not_recorded(untrusted, cache, monkeypatch):
    monkeypatch.setattr(
        sandbox, "try_models", lambda *job, **more: [replace(try_models(*job, **more)[0], limited=False)]
    )
    Classifier(untrusted, options=OPTIONS).close()
    assert not (cache / PASSES_FOLDER).exists()


def test_an_onnx_file_alone_runs_in_the_sandbox_because_its_weights_are_unverified(children, tmp_path):
    onnx_child = pytest.importorskip("onnx")
    helper, kind = onnx_child.helper, onnx_child.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["image"], ["p"]), helper.make_node("Flatten", ["p"], ["answer"])],
        "g",
        [helper.make_tensor_value_info("image", kind, [1, 3, 8, 3])],
        [helper.make_tensor_value_info("answer", kind, [1, 3])],
    )
    path = tmp_path / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    with Classifier(path, options=ModelOptions(TINY_LABELS, Crop.STRETCH, (0.0, 1.0))) as classifier:
        # [1, 3, 8, 3] is read as height 3 and width 8.
        assert classifier.classify(np.zeros((3, 8, 3), np.uint8))
    assert len(children) == 1


def test_if_no_child_starts_the_message_names_the_variable(untrusted, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(untrusted))  # not a program
    with pytest.raises(EngineError, match=r"none can be started here \([^\n]*EDGEKIT_TRIAL=off to open it without"):
        Classifier(untrusted, options=OPTIONS)
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    with pytest.raises(EngineError, match=r"got nothing from it instead of"):
        Classifier(untrusted, options=OPTIONS)
    monkeypatch.setenv("EDGEKIT_TRIAL", "off")
    with Classifier(untrusted, options=OPTIONS) as classifier:
        assert classifier.classify(np.full((8, 8, 3), (1, 2, 200), np.uint8))[0].label == "blue"


def test_the_child_imports_nothing_from_the_working_directory(untrusted, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    assert try_models([Path("untrusted.tflite")])[0].ok
    strange = untrusted.with_name(os.fsdecode(b"name\xff\n.tflite"))
    strange.write_bytes(untrusted.read_bytes())
    assert try_models([strange]) == [SandboxResult(strange, SandboxOutcome.OK)]
