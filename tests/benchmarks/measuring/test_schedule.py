"""The order in which models are asked, seen in what light child processes wrote down, and once with a real bundle."""

import os
import re
import time
import types
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measuring import pace, schedule
from benchmarks.measuring.schedule import measure_all, steps
from benchmarks.plan import ARTIFACT_MODULE, KERAS_FUNCTION, KERAS_MODULE, KERAS_PREDICT, KERAS_XLA, SubjectPlan
from benchmarks.settings import Scenario, Settings
from support.images import plain_image, write_image

# It answers at once and notes what it was asked; its name says how it behaves.
PROGRAM = """
def main():
    pass
import json, os, signal, sys, time
import benchmarks.measuring.protocol as p
spec, fd, now, bursts = json.loads(sys.argv[1]), int(sys.argv[2]), time.monotonic_ns(), 0
name = spec["variant"]
def note(what):
    with open("log.txt", "a") as file:
        file.write(f"{name} {spec['threads']} {os.getpid()} {what}\\n")
def send(message):
    os.write(fd, p.encode(message).encode())
note("start")
if name == "broken":
    send(p.ChildFailure("knows no such operator"))
    sys.exit()
send(p.Opened("fake 1", "cpu", now, now + 1, now + 2, now + 3))
def reply(request):
    kind = type(request).__name__
    if kind == "AskBurst":
        return p.Burst((1000,) * request.queries, 1000, 0)
    if kind == "AskAnswers":
        import numpy as np
        np.save(request.output, np.full((3, 2), np.nan if name == "nan" else 0.5, np.float32))
        return p.Answered(False)
    if kind == "AskStages":
        return p.StageTimes((1,), (2,), (3,), (4,))
    if kind == "AskOffline" and name == "no-folder":
        return p.ChildFailure("cannot do a folder")
    if kind == "AskOffline":
        return p.OfflineRun(1, 2, 3)
    return p.CameraTrace(4, 3, 2, (1,)) if kind == "AskCamera" else p.Memory(2, 1)
for line in sys.stdin:
    request = p.decode(line)
    note(type(request).__name__)
    bursts += isinstance(request, p.AskBurst)
    if name == "dies" and bursts == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    send(reply(request))
"""
SMALL = Settings(
    sessions=2, rounds=3, min_duration_s=0.06, min_queries=60, starts=3, sweep_threads=(1, 2), timeout_s=120.0
)
ONLY_STREAM = replace(SMALL, scenarios=(Scenario.SINGLE_STREAM,), starts=1)


@pytest.fixture
def images(tmp_path):
    """As much of an evaluation set as the schedule reads."""
    paths = [write_image(tmp_path / f"{number}.png", plain_image(90, 8, 8)) for number in range(3)]
    np.save(tmp_path / "images.npy", np.full((3, 8, 8, 3), 90, np.uint8))
    (tmp_path / "paths.txt").write_text("".join(f"{path}\n" for path in paths))
    samples = tuple(types.SimpleNamespace(path=path) for path in paths)
    return types.SimpleNamespace(images=tmp_path / "images.npy", paths_file=tmp_path / "paths.txt", samples=samples)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.syspath_prepend(scratch)  # children look for programs where this process does
    (scratch / "program.py").write_text(PROGRAM)
    return scratch


def fake(name):
    return SubjectPlan(name, "program", Path("/nowhere"), Path("/nowhere/m.tflite"), 0, "")


class Asked(NamedTuple):
    """A line of the log."""

    name: str
    threads: str
    pid: str
    what: str


def log(folder, what=None):
    """What was asked, in order; all, or the requests of one kind."""
    asked = [Asked(*line.split()) for line in (folder / "log.txt").read_text().splitlines()]
    return [one for one in asked if what in (None, one.what)]


def measure(names, settings, images, folder, *more):
    return measure_all([fake(name) for name in names], settings, images, folder, lambda _count: None, *more)


def test_every_round_asks_every_subject_once_in_an_order_of_chance(images, folder):
    orders = []
    for seed in (0, 0, 7):
        measure("abcde", replace(ONLY_STREAM, sessions=1, rounds=10, seed=seed), images, folder)
        asked = "".join(one.name for one in log(folder, "AskBurst"))
        orders.append([asked[start : start + 5] for start in range(0, len(asked), 5)])
        (folder / "log.txt").unlink()
    first, again, other = orders
    assert len(first) == 10
    assert {"".join(sorted(one)) for one in first} == {"abcde"}
    assert len(set(first)) > 5
    assert again == first != other


def test_each_session_has_a_fresh_process_and_extra_starts_stand_alone(images, folder):
    counted = []
    plans = [fake("a"), fake("b")]
    found = measure_all(plans, SMALL, images, folder, counted.append)
    assert sum(counted) == steps(plans, SMALL)
    for one in found:
        assert (one.error, len(one.starts)) == (None, 3)
        assert all(start.import_ns == start.load_ns == start.first_ns == 1 for start in one.starts)
        assert [len(burst.latencies_ns) for burst in one.bursts] == [10] * 6
        assert (one.runtime, one.delegate, one.tensorflow_loaded) == ("fake 1", "cpu", False)
        assert one.probabilities.shape == (3, 2)
        assert (len(one.offline), one.camera.frames, one.stages.invoke_ns) == (4, 2, (3,))
        assert (one.memory.peak_bytes, one.energy_mj, one.not_measured) == (2, None, [])
        assert [(count, len(bursts)) for count, bursts in one.threads.items()] == [(1, 5), (2, 5)]
    asked = {}
    for one in log(folder):
        asked.setdefault((one.name, one.pid), []).append(one.what)
    kinds = Counter(tuple(dict.fromkeys(whats)) for whats in asked.values())
    once = ("AskAnswers", "AskStages", "AskCamera", "AskOffline")
    assert kinds == {
        ("start",): 2,
        ("start", "AskBurst", *once): 2,
        # Memory right after the bursts of the last session: nothing else has filled the process by then.
        ("start", "AskBurst", "AskMemory", "AskOffline"): 2,
        ("start", "AskBurst"): 4,
    }


def test_folder_bursts_are_interleaved_and_spread_over_the_sessions(images, folder):
    settings = replace(ONLY_STREAM, scenarios=(Scenario.SINGLE_STREAM, Scenario.OFFLINE))
    measure("abc", settings, images, folder)
    asked = log(folder, "AskOffline")
    names = [one.name for one in asked]
    assert [sorted(names[start : start + 3]) for start in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert set(Counter((one.name, one.pid) for one in asked).values()) == {2}


def test_a_failing_subject_is_told_and_the_rest_goes_on(images, folder):
    plans = [fake(name) for name in ("good", "broken", "dies", "nan", "no-folder")]
    counted = []
    good, broken, dies, nan, no_folder = measure_all(plans, SMALL, images, folder, counted.append)
    assert sum(counted) == steps(plans, SMALL)
    assert (good.error, len(good.bursts)) == (None, 6)
    assert (broken.error, broken.starts, broken.bursts) == ("knows no such operator", [], [])
    assert "killed by SIGSEGV" in dies.error
    assert len(dies.bursts) == 1
    assert nan.error == "expected probabilities, got no numbers (NaN) for 3 of 3 images"
    assert [(item.what, item.reason) for item in no_folder.not_measured] == [("offline", "cannot do a folder")]
    assert (no_folder.error, no_folder.offline) == (None, [])
    assert no_folder.camera is not None
    counts = Counter((one.name, one.what) for one in log(folder))
    assert (counts["dies", "AskBurst"], counts["dies", "AskMemory"], counts["no-folder", "AskOffline"]) == (2, 0, 1)


def test_what_the_settings_leave_out_is_listed_with_the_reason(images, folder):
    quick = replace(ONLY_STREAM, scenarios=(Scenario.SINGLE_STREAM, Scenario.STAGES), quick=True)
    (found,) = measure("a", quick, images, folder)
    assert {item.what: item.reason for item in found.not_measured} == dict.fromkeys(
        ("offline", "camera", "threads"), "left out by --quick"
    )
    assert (found.offline, found.camera, found.threads) == ([], None, {})
    assert found.stages is not None
    assert [item.what for item in pace.left_out(keras(KERAS_XLA), SMALL)] == ["threads"]
    (one_core,) = pace.left_out(fake("a"), replace(SMALL, sweep_threads=()))
    assert "single core" in one_core.reason


def test_keras_predict_gets_all_cores_for_the_folder_and_says_how_few_calls_were_timed(images, folder, monkeypatch):
    monkeypatch.setattr(schedule, "core_count", lambda: 4)
    settings = replace(ONLY_STREAM, scenarios=(Scenario.SINGLE_STREAM, Scenario.OFFLINE))
    predict, other = measure((KERAS_PREDICT, "a"), settings, images, folder)
    folders = log(folder, "AskOffline")
    assert {(one.name, one.threads) for one in folders} == {(KERAS_PREDICT, "4"), ("a", "1")}
    assert len({one.pid for one in folders if one.name == KERAS_PREDICT}) == 1
    assert (len(predict.offline), len(other.offline)) == (4, 4)
    assert len(predict.starts) == 2
    assert [len(burst.latencies_ns) for burst in predict.bursts] == [2] * 6
    (noted,) = [item for item in predict.not_measured if "single-stream calls" in item.what]
    assert re.search(r"60 single-stream calls .* 12 calls$", f"{noted.what} {noted.reason}")
    assert not [item for item in other.not_measured if "calls" in item.what]


def test_too_little_memory_divides_the_subjects_and_says_so(images, folder, monkeypatch):
    monkeypatch.setattr(schedule, "memory_available_bytes", lambda: 600_000_000)
    found = measure("abc", ONLY_STREAM, images, folder)
    assert [(one.plan.name, len(one.bursts)) for one in found] == [("a", 6), ("b", 6), ("c", 6)]
    assert all("measured in 2 groups" in one.not_measured[-1].reason for one in found)
    sessions = [one.name for one in log(folder, "start")]
    assert [sorted(sessions[:2]), sessions[2:3]] == [["a", "b"], ["c"]]


def test_energy_is_that_of_the_timed_calls(images, folder):
    class Meter:
        spans = 0

        @contextmanager
        def span(self):
            self.spans += 1
            yield types.SimpleNamespace(energy_mj=None if self.spans == 1 else 5.0)

    (found,) = measure("a", replace(ONLY_STREAM, sessions=1), images, folder, Meter())
    assert found.energy_mj == (10.0, 40)
    assert [len(burst.latencies_ns) for burst in found.bursts] == [20] * 3


def keras(name):
    return SubjectPlan(name, KERAS_MODULE, Path("/run"), Path("/run/model.keras"), 0, "")


def test_all_fit_into_much_memory_and_the_reference_stays_with_the_exports():
    plans = [keras(KERAS_PREDICT), keras(KERAS_FUNCTION), keras(KERAS_XLA), *(fake(str(n)) for n in range(8))]
    for plenty in (None, 16_000_000_000):
        assert len(pace.groups(plans, plenty, has_second_predict=True)) == 1
    first, *rest = pace.groups(plans, 4_000_000_000, has_second_predict=False)
    assert [plan.name for plan in first] == [KERAS_FUNCTION, *map(str, range(8))]
    assert [[plan.name for plan in group] for group in rest] == [[KERAS_PREDICT, KERAS_XLA]]


@given(
    st.lists(st.sampled_from([keras(KERAS_PREDICT), keras(KERAS_XLA), fake("a"), fake("b")]), max_size=12),
    st.integers(0, 10_000_000_000),
    st.booleans(),
)
def test_groups_lose_nobody_whatever_the_memory(plans, available, second):
    groups = pace.groups(plans, available, has_second_predict=second)
    assert Counter(plan.name for group in groups for plan in group) == Counter(plan.name for plan in plans)
    assert all(groups)


@given(
    sessions=st.integers(1, 5), rounds=st.integers(1, 50), duration_s=st.floats(0.01, 100), queries=st.integers(1, 5000)
)
def test_all_bursts_together_reach_the_least_time_and_number(sessions, rounds, duration_s, queries):
    settings = Settings(sessions=sessions, rounds=rounds, min_duration_s=duration_s, min_queries=queries)
    request = pace.burst(fake("a"), settings, "i.npy", is_first=False)
    assert request.duration_s * sessions * rounds == pytest.approx(duration_s)
    assert request.queries * sessions * rounds >= queries
    assert (request.queries - 1) * sessions * rounds < queries
    assert pace.burst(keras(KERAS_PREDICT), settings, "i.npy", is_first=True).queries <= 2


@pytest.mark.slow
def test_a_real_bundle_is_measured_in_every_scenario(tiny_bundle, images, folder, monkeypatch):
    monkeypatch.setattr(pace, "OFFLINE_S", 0.1)
    monkeypatch.setattr(pace, "CAMERA_S", 0.2)
    plans = [
        SubjectPlan(name, ARTIFACT_MODULE, tiny_bundle, tiny_bundle / f"tiny-{name}.tflite", 0, "")
        for name in ("float32", "int8", "onnx-int8")
    ]
    settings = replace(SMALL, sessions=1, starts=1, sweep_threads=(1,))
    *good, missing = measure_all(plans, settings, images, folder, lambda _count: None)
    assert "onnx-int8" in missing.error
    for one in good:
        assert (one.error, one.not_measured) == (None, [])
        assert all(len(burst.latencies_ns) >= 20 for burst in one.bursts)
        assert len(one.stages.invoke_ns) == 3
        assert all(run.images > 0 for run in one.offline)
        assert one.camera.ages_ns
        assert len(one.threads[1]) == 5
        np.testing.assert_allclose(one.probabilities, 90 / 256)


def test_ctrl_c_while_images_are_answered_leaves_no_child(images, folder, monkeypatch):
    (folder / "program.py").write_text(PROGRAM.replace("        import numpy as np\n", "        time.sleep(600)\n"))

    def interrupt(_futures):
        while len(log(folder, "AskAnswers")) < 2:
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "wait", interrupt)
    monkeypatch.setattr(schedule, "core_count", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        measure("abc", ONLY_STREAM, images, folder)
    for pid in {int(one.pid) for one in log(folder)}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
