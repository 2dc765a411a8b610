"""The Keras side of a benchmark: three ways to call one model, in real child processes."""

import re
import shutil

import numpy as np
import pytest

from benchmarks.measuring import protocol
from benchmarks.measuring.session import Session
from benchmarks.plan import KERAS_FUNCTION, KERAS_MODULE, KERAS_PREDICT, KERAS_XLA, SubjectPlan
from edge_runtime.contract import InputSpec
from edge_runtime.errors import EngineError
from edge_runtime.preprocess import load_prepared

pytestmark = pytest.mark.slow


def open_keras(run, scratch, image, name):
    plan = SubjectPlan(name, KERAS_MODULE, run, run / "model.keras", 0, "")
    return Session(plan, threads=1, image=image, folder=scratch, timeout_s=300.0)


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


@pytest.fixture
def keras_images(colored_images, scratch):
    """Four images of both classes, listed, and prepared for a model of 32 pixels."""
    paths = [path for label in ("blue", "red") for path in sorted((colored_images / label).iterdir())[:2]]
    np.save(scratch / "images.npy", np.stack([load_prepared(path, InputSpec(32, 32)) for path in paths]))
    (scratch / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    return paths


def test_keras_answers_alike_in_its_three_ways(small_run, scratch, keras_images):
    images, listed, answers, said = str(scratch / "images.npy"), str(scratch / "list.txt"), {}, {}
    for name in (KERAS_PREDICT, KERAS_FUNCTION, KERAS_XLA):
        with open_keras(small_run, scratch, keras_images[0], name) as session:
            assert re.fullmatch(r"keras [\d.]+ on tensorflow [\d.]+", session.opened.runtime)
            assert len(session.ask(protocol.AskBurst(images, 0.0, 0.0, 4), protocol.Burst).latencies_ns) == 4
            file = scratch / f"{name}.npy"
            assert session.ask(protocol.AskAnswers(images, str(file)), protocol.Answered) == protocol.Answered(True)
            answers[name] = np.load(file)
            assert len(session.ask(protocol.AskStages(listed, 4), protocol.StageTimes).invoke_ns) == 4
            with pytest.raises(EngineError, match="not for Keras"):
                session.ask(protocol.AskCamera(listed, 30.0, 0.1), protocol.CameraTrace)
            try:
                said[name] = session.ask(protocol.AskOffline(listed, 2, 0.1), protocol.OfflineRun).images
            except EngineError as error:
                said[name] = str(error)
    assert answers[KERAS_PREDICT].shape == (4, 2)
    np.testing.assert_allclose(answers[KERAS_PREDICT].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(answers[KERAS_FUNCTION], answers[KERAS_PREDICT], atol=1e-4)
    np.testing.assert_allclose(answers[KERAS_XLA], answers[KERAS_PREDICT], atol=1e-4)
    assert said[KERAS_PREDICT] % 32 == 0
    assert "keras-predict" in said[KERAS_FUNCTION]
    assert said[KERAS_XLA] == said[KERAS_FUNCTION]


def test_a_damaged_keras_model_is_one_sentence_without_noise(small_run, scratch, keras_images, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(small_run, run)
    (run / "model.keras").write_bytes((run / "model.keras").read_bytes()[:2000])
    with pytest.raises(EngineError) as raised:
        open_keras(run, scratch, keras_images[0], KERAS_PREDICT)
    assert re.fullmatch(r"\S+model.keras: Keras [\d.]+ cannot open it \(.*\)", str(raised.value))
