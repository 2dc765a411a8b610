"""The order in which models are asked, seen in what light child processes wrote down, and once with a real bundle."""

import os
import re
import time
import types
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

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
    """Three 8 x 8 images as an evaluation set; only what the schedule reads of it."""
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


def log(folder):
    """What was asked, in order: subject, threads, process, request."""
    rows = [line.split() for line in (folder / "log.txt").read_text().splitlines()]
    return [(name, int(threads), pid, what) for name, threads, pid, what in rows]


def rounds_of(folder, size):
    asked = [name for name, _threads, _pid, what in log(folder) if what == "AskBurst"]
    return [asked[start : start + size] for start in range(0, len(asked), size)]


def test_every_round_asks_every_subject_once_in_an_order_of_chance(images, folder):
    names = ["a", "b", "c", "d", "e"]
    orders = []
    for seed in (0, 0, 7):
        settings = replace(ONLY_STREAM, sessions=1, rounds=10, seed=seed)
        measure_all([fake(name) for name in names], settings, images, folder, lambda _count: None)
        orders.append(rounds_of(folder, 5))
        (folder / "log.txt").unlink()
    first, again, other = orders
    assert len(first) == 10
    assert all(sorted(one) == names for one in first)
    assert len({tuple(one) for one in first}) > 5
    assert again == first
    assert other != first


def test_each_session_has_a_fresh_process_and_extra_starts_stand_alone(images, folder):
    counted = []
    plans = [fake("a"), fake("b")]
    found = measure_all(plans, SMALL, images, folder, counted.append)
    assert sum(counted) == steps(plans, SMALL)
    for one in found:
        assert one.error is None
        assert len(one.starts) == 3
        assert all(start.import_ns == start.load_ns == start.first_ns == 1 for start in one.starts)
        assert [len(burst.latencies_ns) for burst in one.bursts] == [10] * 6
        assert (one.runtime, one.delegate, one.tensorflow_loaded) == ("fake 1", "cpu", False)
        assert one.probabilities.shape == (3, 2)
        assert (len(one.offline), one.camera.frames, one.stages.invoke_ns) == (4, 2, (3,))
        assert (one.memory.peak_bytes, one.energy_mj, one.not_measured) == (2, None, [])
        assert [(count, len(bursts)) for count, bursts in one.threads.items()] == [(1, 5), (2, 5)]
    asked = {}
    for name, _threads, pid, what in log(folder):
        asked.setdefault((name, pid), []).append(what)
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
    measure_all([fake("a"), fake("b"), fake("c")], settings, images, folder, lambda _count: None)
    asked = [(name, pid) for name, _threads, pid, what in log(folder) if what == "AskOffline"]
    names = [name for name, _pid in asked]
    assert [sorted(names[start : start + 3]) for start in range(0, 12, 3)] == [["a", "b", "c"]] * 4
    assert set(Counter(asked).values()) == {2}


def test_a_failing_subject_is_told_and_the_rest_goes_on(images, folder):
    plans = [fake(name) for name in ("good", "broken", "dies", "nan", "no-folder")]
    counted = []
    good, broken, dies, nan, no_folder = measure_all(plans, SMALL, images, folder, counted.append)
    assert sum(counted) == steps(plans, SMALL)
    assert good.error is None
    assert len(good.bursts) == 6
    assert broken.error == "knows no such operator"
    assert (broken.starts, broken.bursts) == ([], [])
    assert "killed by SIGSEGV" in dies.error
    assert len(dies.bursts) == 1
    assert nan.error == "expected probabilities, got no numbers (NaN) for 3 of 3 images"
    assert no_folder.error is None
    assert [(item.what, item.reason) for item in no_folder.not_measured] == [("offline", "cannot do a folder")]
    assert no_folder.offline == []
    assert no_folder.camera is not None
    whats = [(name, what) for name, _threads, _pid, what in log(folder)]
    assert whats.count(("dies", "AskBurst")) == 2
    assert ("dies", "AskMemory") not in whats
    assert whats.count(("no-folder", "AskOffline")) == 1


def test_what_the_settings_leave_out_is_listed_with_the_reason(images, folder):
    quick = replace(ONLY_STREAM, scenarios=(Scenario.SINGLE_STREAM, Scenario.STAGES), quick=True)
    (found,) = measure_all([fake("a")], quick, images, folder, lambda _count: None)
    assert {item.what: item.reason for item in found.not_measured} == dict.fromkeys(
        ("offline", "camera", "threads"), "left out by --quick"
    )
    assert (found.offline, found.camera, found.threads) == ([], None, {})
    assert found.stages is not None
    keras = SubjectPlan(KERAS_XLA, KERAS_MODULE, Path("/"), Path("/"), 0, "")
    assert [item.what for item in pace.left_out(keras, SMALL)] == ["threads"]
    (one_core,) = pace.left_out(fake("a"), replace(SMALL, sweep_threads=()))
    assert "single core" in one_core.reason


def test_keras_predict_gets_all_cores_for_the_folder_and_says_how_few_calls_were_timed(images, folder, monkeypatch):
    monkeypatch.setattr(schedule, "core_count", lambda: 4)
    settings = replace(ONLY_STREAM, scenarios=(Scenario.SINGLE_STREAM, Scenario.OFFLINE))
    predict, other = measure_all([fake(KERAS_PREDICT), fake("a")], settings, images, folder, lambda _count: None)
    folders = {(name, threads) for name, threads, _pid, what in log(folder) if what == "AskOffline"}
    assert folders == {(KERAS_PREDICT, 4), ("a", 1)}
    assert len({pid for name, _threads, pid, what in log(folder) if (name, what) == (KERAS_PREDICT, "AskOffline")}) == 1
    assert (len(predict.offline), len(other.offline)) == (4, 4)
    assert len(predict.starts) == 2
    assert [len(burst.latencies_ns) for burst in predict.bursts] == [2] * 6
    (noted,) = [item for item in predict.not_measured if "single-stream calls" in item.what]
    assert re.search(r"60 single-stream calls .* 12 calls$", f"{noted.what} {noted.reason}")
    assert not [item for item in other.not_measured if "calls" in item.what]


def test_too_little_memory_divides_the_subjects_and_says_so(images, folder, monkeypatch):
    monkeypatch.setattr(schedule, "memory_available_bytes", lambda: 600_000_000)
    names = ["a", "b", "c"]
    found = measure_all([fake(name) for name in names], ONLY_STREAM, images, folder, lambda _count: None)
    assert [one.plan.name for one in found] == names
    assert all(len(one.bursts) == 6 for one in found)
    assert all("measured in 2 groups" in one.not_measured[-1].reason for one in found)
    sessions = [name for name, _threads, _pid, what in log(folder) if what == "start"]
    assert [sorted(sessions[:2]), sessions[2:3]] == [["a", "b"], ["c"]]


def test_energy_is_that_of_the_timed_calls(images, folder):
    class Meter:
        spans = 0

        @contextmanager
        def span(self):
            self.spans += 1
            yield types.SimpleNamespace(energy_mj=None if self.spans == 1 else 5.0)

    settings = replace(ONLY_STREAM, sessions=1)
    (found,) = measure_all([fake("a")], settings, images, folder, lambda _count: None, Meter())
    assert found.energy_mj == (10.0, 40)
    assert [len(burst.latencies_ns) for burst in found.bursts] == [20] * 3


def keras(name):
    return SubjectPlan(name, KERAS_MODULE, Path("/run"), Path("/run/model.keras"), 0, "")


def test_all_fit_into_much_memory_and_the_reference_stays_with_the_exports():
    plans = [keras(KERAS_PREDICT), keras(KERAS_FUNCTION), keras(KERAS_XLA), *(fake(str(n)) for n in range(8))]
    assert len(pace.groups(plans, None, has_second_predict=True)) == 1
    assert len(pace.groups(plans, 16_000_000_000, has_second_predict=True)) == 1
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
        while [what for _name, _threads, _pid, what in log(folder)].count("AskAnswers") < 2:
            time.sleep(0.02)
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule, "wait", interrupt)
    monkeypatch.setattr(schedule, "core_count", lambda: 2)
    with pytest.raises(KeyboardInterrupt):
        measure_all([fake(name) for name in "abc"], ONLY_STREAM, images, folder, lambda _count: None)
    for pid in {int(pid) for _name, _threads, pid, _what in log(folder)}:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
