"""A sink in a thread of its own: never waits, never dies in silence, and is closed in time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import edge_runtime.sinks.background as background
from edge_runtime.errors import OutputError
from edge_runtime.sinks.background import BackgroundSink
from edge_runtime.sinks.base import Sink
from support.results import classified
from support.waiting import wait_until


class Recorder(Sink):
    """Keeps what it is given; can be held up, and raises what it is told to."""

    def __init__(self, *, held=False, raises=None, close_raises=None, pause_s=0.0):
        self.results, self.images, self.closes = [], [], 0
        self.raises, self.close_raises, self.pause_s = raises, close_raises, pause_s
        self.go_on, self.entered = threading.Event(), threading.Event()
        if not held:
            self.go_on.set()

    def write(self, result, image_hwc_rgb_u8=None):
        self.entered.set()
        assert self.go_on.wait(20.0)
        if self.raises:
            raise self.raises
        self.results.append(result)
        self.images.append(image_hwc_rgb_u8)
        time.sleep(self.pause_s)

    def close(self):
        self.closes += 1
        if self.close_raises:
            raise self.close_raises


def opened(*, capacity=None, **options):
    inner = Recorder(**options)
    return inner, BackgroundSink(inner, "test", capacity=capacity)


def test_results_pass_in_order_and_closing_finishes_them():
    inner, sink = opened()
    results = [classified(number=number) for number in range(50)]
    for result in results:
        sink.write(result)
    sink.close()
    sink.close()
    assert inner.results == results
    assert (inner.closes, sink.dropped, sink.problem) == (1, 0, None)
    sink.write(classified())
    assert len(inner.results) == 50


def test_frames_are_copied_only_for_a_sink_that_needs_them_and_a_result_that_is_wanted():
    inner, asked = Recorder(), []

    def wants(result):
        asked.append(result)
        return len(asked) > 1

    sink = BackgroundSink(inner, "test", wants=wants, with_image=True)
    lent = np.zeros((2, 2, 3), np.uint8)
    for _ in range(2):
        sink.write(classified(), lent)
    lent[:] = 255
    sink.close()
    assert len(inner.images) == 1
    assert inner.images[0] is not None
    assert not inner.images[0].any()
    plain, sink = opened()
    with sink:
        sink.write(classified(), lent)
    assert plain.images == [None]


def test_the_oldest_are_dropped_when_too_many_wait_and_health_says_so():
    inner, sink = opened(held=True, capacity=2)
    sink.write(classified(number=0))
    assert inner.entered.wait(20.0)
    for number in range(1, 6):
        sink.write(classified(number=number))
    assert sink.dropped == 3
    assert sink.problem == "is slower than the results arrive"
    inner.go_on.set()
    wait_until(lambda: len(inner.results) == 3)
    wait_until(lambda: sink.problem is None)
    assert [result.frame.number for result in inner.results] == [0, 4, 5]
    sink.close()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("odd"), "odd"),
        (ValueError("no number"), "no number"),
        (RuntimeError(), "RuntimeError"),
        (OutputError("another edge-run is writing there"), "another edge-run is writing there"),
    ],
)
def test_trouble_is_told_and_passes(error, says):
    inner, sink = opened(raises=error)
    sink.write(classified(number=0))
    wait_until(lambda: sink.dropped == 1)
    assert sink.problem == says
    inner.raises = None
    sink.write(classified(number=1))
    wait_until(lambda: sink.problem is None)
    sink.close()
    assert (len(inner.results), inner.closes, sink.dropped) == (1, 1, 1)


def test_a_bug_ends_the_thread_loudly_and_the_camera_goes_on(monkeypatch):
    reported = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    inner, sink = opened(raises=KeyError("a bug"))
    sink.write(classified(number=0))
    wait_until(lambda: bool(reported))
    assert reported[0].exc_type is KeyError
    assert sink.problem is not None
    assert "bug" in sink.problem
    sink.write(classified(number=1))
    assert sink.dropped == 2
    assert inner.closes == 1
    sink.close()
    assert inner.closes == 1


def test_closing_a_slow_sink_drops_what_waits_and_still_closes_it(monkeypatch):
    monkeypatch.setattr(background, "CLOSE_DEADLINE_S", 1.0)
    inner, sink = opened(capacity=1000, pause_s=0.05)
    for number in range(1000):
        sink.write(classified(number=number))
    sink.close()
    wait_until(lambda: inner.closes == 1)
    assert 0 < len(inner.results) < 1000
    assert sink.dropped == 1000 - len(inner.results)


def test_closing_a_sink_that_hangs_returns(monkeypatch):
    monkeypatch.setattr(background, "CLOSE_DEADLINE_S", 0.2)
    inner, sink = opened(held=True)
    sink.write(classified(number=0))
    sink.write(classified(number=1))
    assert inner.entered.wait(20.0)
    sink.close()
    assert (inner.closes, sink.dropped) == (0, 1)
    inner.go_on.set()
    wait_until(lambda: inner.closes == 1)


def test_trouble_at_closing_is_told():
    _, sink = opened(close_raises=OSError(5, "Input/output error"))
    sink.close()
    assert sink.problem == "Input/output error"


def test_threads_may_write_together_and_none_is_left():
    before = threading.active_count()
    inner, sink = opened(capacity=10_000)
    with sink, ThreadPoolExecutor(4) as pool:
        for number in range(800):
            pool.submit(sink.write, classified(number=number))
    wait_until(lambda: threading.active_count() == before)
    assert len(inner.results) == 800
