"""The offline and camera scenarios of a measuring child, with fake and with real models."""

import itertools
import json
import threading
import time

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measuring import artifact_scenarios as scenarios
from benchmarks.measuring.protocol import AskCamera, AskOffline
from edge_runtime.errors import EngineError
from edge_runtime.pipeline.camera import classify_frames
from edge_runtime.results import Classified
from edge_runtime.sources.base import Frame
from edge_runtime.testing import FakeEngine, fake_classifier, write_tiny_model
from support.files import put
from support.images import plain_image, write_image
from support.programs import run_code

BLACK = np.zeros((8, 8, 3), np.uint8)


def write_list(folder, paths):
    file = folder / "images.txt"
    file.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8", errors="surrogateescape")
    return str(file)


@pytest.fixture
def photos(tmp_path):
    return [write_image(tmp_path / f"{value}.png", plain_image(value, 30, 40)) for value in (0, 120, 250)]


class Opener:
    """Opens fake classifiers and remembers their engines."""

    def __init__(self, *, delay_s=0.0, fails=False, late_s=()):
        self.engines, self._lock = [], threading.Lock()
        self._options, self._late_s = {"delay_s": delay_s, "fails": fails}, iter(late_s)

    def __call__(self):
        with self._lock:
            late_s = next(self._late_s, 0.0)
            self.engines.append(engine := FakeEngine(2, **self._options))
        time.sleep(late_s)
        return fake_classifier(engine=engine)


@pytest.mark.parametrize("workers", [1, 3])
def test_offline_counts_what_every_worker_does_and_closes_all(tmp_path, photos, workers):
    opener, threads = Opener(delay_s=0.005), cv2.getNumThreads()
    run = scenarios.run_offline(AskOffline(write_list(tmp_path, photos), workers, 0.4), opener)
    assert [engine.closed and engine.invocations > 0 for engine in opener.engines] == [True] * workers
    invocations = sum(engine.invocations for engine in opener.engines)
    # A loaded machine makes fewer; none makes more than the pause of each inference allows.
    assert len(photos) < run.images <= min(invocations, workers * run.wall_ns / 5e6 + workers)
    assert run.wall_ns >= 0.4e9
    assert run.cpu_ns > 0
    assert cv2.getNumThreads() == threads


def test_offline_begins_when_the_last_worker_is_there(tmp_path, photos):
    opener = Opener(delay_s=0.01, late_s=[0.0, 0.5])
    run = scenarios.run_offline(AskOffline(write_list(tmp_path, photos), 2, 0.2), opener)
    first, second = (engine.invocations for engine in opener.engines)
    # The first went on alone, at most as far as results may wait for their turn; that is not in the figure.
    assert first > second
    assert run.images <= 2 * run.wall_ns / 10e6 + 2


def test_offline_images_that_fail_do_not_count(tmp_path, photos):
    broken = [put(tmp_path, f"broken{index}.png", "no image") for index in range(3)]
    opener = Opener(delay_s=0.002)
    listed = [path for pair in zip(photos, broken, strict=True) for path in pair]
    run = scenarios.run_offline(AskOffline(write_list(tmp_path, listed), 2, 0.3), opener)
    assert 0 < run.images <= sum(engine.invocations for engine in opener.engines)


def test_offline_says_what_is_wrong_where_all_fail(tmp_path, photos):
    ask = AskOffline(write_list(tmp_path, photos), 2, 0.05)
    with pytest.raises(EngineError, match=r"not one of 3 images could be classified .*fake failed"):
        scenarios.run_offline(ask, Opener(fails=True))


def test_offline_passes_on_that_a_model_cannot_be_opened_again(tmp_path, photos):
    opener = Opener()

    def open_once():
        if opener.engines:
            raise EngineError("no second one")
        return opener()

    with pytest.raises(EngineError, match="no second one"):
        scenarios.run_offline(AskOffline(write_list(tmp_path, photos), 2, 0.05), open_once)
    assert opener.engines[0].closed


def test_offline_gives_an_answer_of_a_model_slower_than_its_time(tmp_path, photos):
    run = scenarios.run_offline(AskOffline(write_list(tmp_path, photos), 1, 0.01), Opener(delay_s=0.1))
    assert (run.images, run.wall_ns >= 0.1e9) == (1, True)


def frames_of(source, until_s=None, pause_s=0.0):
    found = []
    for frame in source.frames(until_s):
        assert isinstance(frame, Frame)
        assert time.perf_counter() >= frame.started_s
        found.append(frame)
        time.sleep(pause_s)
    return found


def test_paced_source_shows_every_frame_to_who_keeps_up():
    white = BLACK + np.uint8(255)
    frames = frames_of(scenarios.PacedSource([BLACK, white], fps=20, frames=6))
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] < 6
    assert [frame.image_hwc_rgb_u8 is white for frame in frames] == [number % 2 == 1 for number in numbers]
    gaps = {round((b.started_s - a.started_s) / (b.number - a.number), 6) for a, b in itertools.pairwise(frames)}
    assert gaps == {0.05}  # due times, not the moments when somebody looked
    assert all(frame.time_s == pytest.approx(frame.number / 20) for frame in frames)
    assert all(frame.captured_at is not None for frame in frames)


def test_paced_source_gives_the_newest_frame_to_who_is_slow():
    frames = frames_of(scenarios.PacedSource([BLACK], fps=100, frames=40), pause_s=0.08)
    numbers = [frame.number for frame in frames]
    assert len(numbers) <= 6
    assert all(b - a >= 8 for a, b in itertools.pairwise(numbers))


def test_paced_source_ends_in_time():
    for offset_s, numbers in ((0.01, [0]), (-1, [])):
        source = scenarios.PacedSource([BLACK], fps=1, frames=100)
        assert [frame.number for frame in frames_of(source, until_s=time.perf_counter() + offset_s)][:1] == numbers


def test_age_counts_from_the_moment_that_a_frame_was_due():
    classifier = fake_classifier(engine=FakeEngine(2, delay_s=0.05))
    results = [result for result, _ in classify_frames(scenarios.PacedSource([BLACK], fps=30, frames=8), classifier)]
    stamps = [result.frame for result in results if isinstance(result, Classified) and result.frame]
    assert all(stamp.age_ms >= 50 for stamp in stamps)
    assert len(stamps) < 8


def test_camera_counts_frames_and_ages(tmp_path, photos):
    trace = scenarios.run_camera(AskCamera(write_list(tmp_path, photos), 20, 0.5), fake_classifier())
    assert (trace.width, trace.height) == scenarios.FRAME_SIZE_WH
    assert trace.frames == 10
    assert 1 <= len(trace.ages_ns) <= 10
    assert all(age_ns > 0 for age_ns in trace.ages_ns)


def test_camera_of_a_model_slower_than_its_time_drops_the_rest(tmp_path, photos):
    classifier = fake_classifier(engine=FakeEngine(2, delay_s=0.3))
    trace = scenarios.run_camera(AskCamera(write_list(tmp_path, photos), 100, 0.2), classifier)
    assert (trace.frames, len(trace.ages_ns)) == (20, 1)
    assert trace.ages_ns[0] >= 300_000_000


@given(st.integers(1, 240), st.integers(1, 100))
def test_frames_that_are_due_in_tenths_of_a_second(fps, tenths):
    assert scenarios.frames_due(tenths / 10, fps) == -(-fps * tenths // 10)


def test_camera_without_a_image_that_can_be_decoded(tmp_path):
    (tmp_path / "input.bin").write_bytes(bytes(192))
    with pytest.raises(EngineError, match="no image can be shown as a camera frame"):
        scenarios.run_camera(AskCamera(write_list(tmp_path, [tmp_path / "input.bin"]), 30, 0.1), fake_classifier())


def test_camera_takes_a_few_readable_images(tmp_path, photos):
    frames = scenarios.load_frames([tmp_path / "missing.png", *photos * 7])
    assert len(frames) == 10
    assert {frame.shape for frame in frames} == {(720, 1280, 3)}
    assert [int(frame[0, 0, 0]) for frame in frames[:3]] == [0, 120, 250]


@given(st.integers(1, 60), st.integers(1, 60))
def test_cover_fills_the_frame_without_distortion(width, height):
    # A grey ramp in each direction: equal slopes in the frame mean that nothing was stretched one way.
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    frame = scenarios.cover(np.stack([across, down, across], axis=2).astype(np.uint8), (64, 36))
    assert frame.shape == (36, 64, 3)
    if min(width, height) >= 30:
        spans = np.ptp(frame[:, :, 0].astype(int)) / 64, np.ptp(frame[:, :, 1].astype(int)) / 36
        assert spans[0] == pytest.approx(spans[1], abs=0.1)


def test_cover_of_a_needle_takes_little_memory():
    assert scenarios.cover(np.zeros((20_000, 1, 3), np.uint8), scenarios.FRAME_SIZE_WH).shape == (720, 1280, 3)


CHILD = """
import json, sys
from pathlib import Path
from benchmarks.measuring.artifact_scenarios import run_camera, run_offline
from benchmarks.measuring.protocol import AskCamera, AskOffline
from edge_runtime.classifier import Classifier
model, listed = sys.argv[1:]
offline = run_offline(AskOffline(listed, 2, 0.2), lambda: Classifier(model))
with Classifier(model) as classifier:
    camera = run_camera(AskCamera(listed, 30, 0.2), classifier)
heavy = [name for name in ("scipy", "matplotlib", "tensorflow", "keras") if name in sys.modules]
print(json.dumps([offline.images, offline.wall_ns, camera.frames, len(camera.ages_ns), heavy]))
"""


def test_a_real_model_in_a_process_of_its_own_without_the_reports_libraries(tmp_path, photos):
    model = write_tiny_model(tmp_path / "tiny.tflite")
    done = run_code(CHILD, model, write_list(tmp_path, photos), timeout_s=120)
    images, wall_ns, frames, answers, heavy = json.loads(done.stdout.splitlines()[-1])
    assert images > 0
    assert wall_ns >= 0.2e9
    assert (frames, heavy) == (6, [])
    assert 1 <= answers <= 6
