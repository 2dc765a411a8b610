"""The parent's side of a measuring child, with real child processes: good ones, dying ones, silent ones."""

import signal
import time

import numpy as np
import pytest

from benchmarks.measuring import protocol
from benchmarks.measuring.session import Session, child_environment, describe_crash
from benchmarks.plan import ARTIFACT_MODULE, KERAS_MODULE, KERAS_PREDICT, SubjectPlan
from edge_runtime.classifier import Classifier
from edge_runtime.errors import EngineError
from support.images import plain_image, write_image
from support.waiting import is_running

GENEROUS_S = 120.0

HEAD = """
def main():
    pass
import json, os, signal, sys, time
from benchmarks.measuring.protocol import Burst, Memory, Opened, decode, encode
fd, now = int(sys.argv[2]), time.monotonic_ns()
def send(message):
    os.write(fd, encode(message).encode())
"""
SNEAKY = """
import sys, types
from benchmarks.measuring.artifact_child import import_runtime, run_child
def sneaky():
    load = import_runtime()
    sys.modules["tensorflow"] = types.ModuleType("tensorflow")
    return load
def main():
    run_child(sneaky)
"""
OPENS = HEAD + "send(Opened('fake 1', None, now, now + 1, now + 2, now + 3))\n"


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)  # children look for programs where this process does
    return folder


@pytest.fixture
def photo(tmp_path):
    return write_image(tmp_path / "green.png", plain_image((0, 200, 0), 20, 20))


def plan(model, name="int8", module=ARTIFACT_MODULE):
    return SubjectPlan(name, module, model, model / "file", 0, "")


def open_program(scratch, code, **options):
    (scratch / "program.py").write_text(code)
    subject = plan(scratch, module="program")
    return Session(subject, threads=1, image=scratch / "p.png", folder=scratch, **{"timeout_s": GENEROUS_S, **options})


def open_artifact(bundle, scratch, photo, name="int8", **options):
    return Session(plan(bundle, name, **options), threads=1, image=photo, folder=scratch, timeout_s=GENEROUS_S)


def test_an_artifact_answers_every_request_as_the_device_does(tiny_bundle, scratch, photo):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 8, 8, 3), np.uint8)
    np.save(scratch / "images.npy", images)
    (scratch / "list.txt").write_text(f"{photo}\n")
    before_ns = time.monotonic_ns()
    with open_artifact(tiny_bundle, scratch, photo) as session:
        elapsed_ns = time.monotonic_ns() - before_ns
        parts = [getattr(session.start, f"{part}_ns") for part in ("interpreter", "import", "load", "first")]
        assert min(parts) > 0
        assert sum(parts) == session.start.total_ns <= elapsed_ns
        assert session.opened.runtime.startswith("litert ")
        assert session.opened.delegate in ("xnnpack", "cpu")
        burst = session.ask(protocol.AskBurst(str(scratch / "images.npy"), 0.0, 0.01, 20), protocol.Burst)
        assert len(burst.latencies_ns) >= 20
        memory = session.ask(protocol.AskMemory(), protocol.Memory)
        assert memory.peak_bytes is None or 20e6 < memory.peak_bytes < 400e6
        assert len(session.ask(protocol.AskStages(str(scratch / "list.txt"), 3), protocol.StageTimes).invoke_ns) == 1
        answers = scratch / "answers.npy"
        assert session.ask(
            protocol.AskAnswers(str(scratch / "images.npy"), str(answers)), protocol.Answered
        ) == protocol.Answered(False)
    with Classifier(tiny_bundle, variant="int8") as classifier:
        expected = np.stack([classifier.probabilities(image) for image in images])
    np.testing.assert_array_equal(np.load(answers), expected)


def test_the_parents_memory_is_not_counted_as_the_childs(tiny_bundle, scratch, photo):
    ballast = np.ones(300_000_000, np.uint8)
    with open_artifact(tiny_bundle, scratch, photo) as session:
        memory = session.ask(protocol.AskMemory(), protocol.Memory)
    assert ballast[-1] == 1
    if memory.peak_bytes is None:
        pytest.skip("this kernel does not tell a process' memory")
    assert memory.peak_bytes < 250e6


def test_a_model_or_an_image_that_cannot_be_opened_is_one_sentence(tiny_bundle, scratch, photo):
    with pytest.raises(EngineError, match="onnx-int8"):
        open_artifact(tiny_bundle, scratch, photo, name="onnx-int8")
    photo.write_text("no image")
    with pytest.raises(EngineError, match="not an image"):
        open_artifact(tiny_bundle, scratch, photo)


def test_a_request_that_fails_leaves_the_session_open(tiny_bundle, scratch, photo):
    (scratch / "list.txt").write_text("/nowhere/p.png\n")
    with open_artifact(tiny_bundle, scratch, photo) as session:
        with pytest.raises(EngineError, match="cannot be read"):
            session.ask(protocol.AskStages(str(scratch / "list.txt"), 3), protocol.StageTimes)
        assert session.ask(protocol.AskMemory(), protocol.Memory) is not None


def test_nothing_is_reported_once_tensorflow_came_in(tiny_bundle, scratch, photo):
    (scratch / "program.py").write_text(SNEAKY)
    with pytest.raises(EngineError, match="TensorFlow, Keras or JAX was imported"):
        open_artifact(tiny_bundle, scratch, photo, module="program")


def test_garbage_on_standard_output_and_error_disturbs_nothing(scratch):
    code = OPENS + (
        "print('{\"message\": \"Memory\"}', flush=True)\nprint('noise' * 100000, file=sys.stderr, flush=True)\n"
        "for line in sys.stdin:\n    print(line * 1000, flush=True)\n    send(Memory(1, 2))\n"
    )
    with open_program(scratch, code) as session:
        for _ in range(3):
            assert session.ask(protocol.AskMemory(), protocol.Memory) == protocol.Memory(1, 2)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_names_the_signal_and_the_session_stays_dead(scratch, number):
    dying = f"os.kill(os.getpid(), {int(number)})"
    code = OPENS + f"sys.stdin.readline()\nprint('the last words', file=sys.stderr, flush=True)\n{dying}"
    with open_program(scratch, code) as session:
        with pytest.raises(EngineError, match=rf"killed by {number.name} \(the last words\)"):
            session.ask(protocol.AskMemory(), protocol.Memory)
        with pytest.raises(EngineError, match=rf"had ended before: .*{number.name}"):
            session.ask(protocol.AskMemory(), protocol.Memory)


def test_a_crash_while_opening_tells_the_exception_and_no_traceback(scratch):
    code = "import sys\nprint('W0000 00:00:17 noise.cc:1] beside it', file=sys.stderr)\nraise ValueError('bad weights')"
    with pytest.raises(EngineError, match=r"exit code 1 \(ValueError: bad weights\)$"):
        open_program(scratch, code)


@pytest.mark.parametrize("code", ["import time\ntime.sleep(600)", OPENS + "time.sleep(600)"])
def test_a_child_that_hangs_is_stopped_after_the_timeout(scratch, code):
    (scratch / "pid.py").write_text("import os\nopen('pid', 'w').write(str(os.getpid()))")
    started_s = time.monotonic()

    def run():
        with open_program(scratch, "import pid\n" + code, timeout_s=1.5) as session:
            session.ask(protocol.AskMemory(), protocol.Memory)

    with pytest.raises(EngineError, match=r"no answer within 1.5 s and was stopped; .*--timeout"):
        run()
    assert time.monotonic() - started_s < 100
    assert not is_running(int((scratch / "pid").read_text()))


def test_a_child_that_ignores_the_end_of_its_input_is_killed(scratch):
    session = open_program(scratch, OPENS + "time.sleep(600)", end_s=0.2)
    session.close()
    session.close()
    assert not is_running(session.pid)
    with pytest.raises(EngineError, match="closed"):
        session.ask(protocol.AskMemory(), protocol.Memory)


def test_ctrl_c_leaves_no_child(scratch):
    def interrupted():
        with open_program(scratch, OPENS + "time.sleep(600)") as session:
            (scratch / "pid").write_text(str(session.pid))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not is_running(int((scratch / "pid").read_text()))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("b'no message\\n'", "expected a message"),
        ('b\'{"message": "Memory", "fields": {}}\\n\'', "sent an invalid message"),
        ("encode(Burst((1,), 1, None)).encode()", "sent Burst instead of Memory"),
    ],
)
def test_a_reply_that_makes_no_sense_ends_the_session(scratch, said, expected):
    code = OPENS + f"sys.stdin.readline()\nos.write(fd, {said})\ntime.sleep(600)"
    with open_program(scratch, code) as session:
        with pytest.raises(EngineError, match=expected):
            session.ask(protocol.AskMemory(), protocol.Memory)
        with pytest.raises(EngineError, match="had ended before"):
            session.ask(protocol.AskMemory(), protocol.Memory)


def test_a_child_that_closes_its_pipe_is_stopped(scratch):
    with (
        open_program(scratch, OPENS + "os.close(fd)\ntime.sleep(600)", end_s=0.2) as session,
        pytest.raises(EngineError, match="closed its reply pipe"),
    ):
        session.ask(protocol.AskMemory(), protocol.Memory)


def test_the_last_words_are_not_the_noise_of_libraries():
    noise = "2026-01-01 10:00:00.1: W tensorflow/x.cc:1] slow\nI0000 00:00 y.cc:2] fine\nINFO: Created delegate\n"
    assert describe_crash(1, noise) == "its process failed with exit code 1 (no error output)"
    trace = f'Traceback (most recent call last):\n  File "x", line 1\nkeras.src.OddError: no such layer\n{noise}'
    assert describe_crash(1, trace).endswith("(keras.src.OddError: no such layer)")
    assert describe_crash(-signal.SIGBUS, "").startswith("its process was killed by SIGBUS")
    assert describe_crash(-99, "") == "its process was killed by signal 99 (no error output)"


def test_only_keras_is_kept_from_the_gpu(tmp_path):
    inherited = {"PATH": "/bin", "KERAS_BACKEND": "jax"}
    assert child_environment(plan(tmp_path), inherited) == {**inherited, "EDGEKIT_TRIAL": "off"}
    keras = child_environment(plan(tmp_path, KERAS_PREDICT, KERAS_MODULE), inherited)
    assert (keras["KERAS_BACKEND"], keras["CUDA_VISIBLE_DEVICES"]) == ("tensorflow", "-1")
