"""Shared frames: always the newest, never torn, never changed while looked at, nothing left behind."""

import itertools
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.errors import SourceError
from edge_runtime.sources.capture.shared_frames import MAX_PIXELS, FrameReader, FrameWriter, create_memory
from support.files import count_open_files
from support.paths import CHECKOUT

WRITE_FOR_EVER = """
import sys
from edge_runtime.sources.capture.shared_frames import FrameWriter
writer, number = FrameWriter(int(sys.argv[1])), 0
while True:
    writer.slot(60, 80)[:] = number % 251
    writer.publish((60, 80), number, time_s=0.0, is_live=False, started_s=0.0, decode_ms=0.0)
    number += 1
"""
TRY_THE_LOCK = "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB, 4096)"
HOLD_THE_LOCK = """
import fcntl, sys, time
fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX, 4096)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def memory():
    descriptor = create_memory()
    yield descriptor
    os.close(descriptor)


def publish(writer, number, size_hw=(4, 6)):
    writer.slot(*size_hw)[:] = number % 251
    writer.publish(size_hw, number, time_s=number / 10, is_live=True, started_s=5.0, decode_ms=2.0)


def start(code, memory):
    program = [sys.executable, "-c", code, str(memory)]
    return subprocess.Popen(program, pass_fds=[memory], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)


def test_a_frame_is_taken_once_and_only_to_be_read(memory):
    reader, writer = FrameReader(memory), FrameWriter(memory)
    assert reader.take() is None
    assert reader.newest_number() == -1
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    writer.slot(5, 7)[:] = pixels
    writer.publish((5, 7), 3, time_s=0.5, is_live=False, started_s=9.5, decode_ms=1.5)
    frame = reader.take()
    assert (frame.number, frame.time_s, frame.captured_at, frame.started_s, frame.decode_ms) == (3, 0.5, None, 9.5, 1.5)
    assert np.array_equal(frame.image_hwc_rgb_u8, pixels)
    with pytest.raises(ValueError, match="read-only"):
        frame.image_hwc_rgb_u8[0, 0, 0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        frame.image_hwc_rgb_u8.setflags(write=True)
    assert reader.take() is None


@settings(max_examples=60)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 9)), max_size=40))
def test_whatever_the_order_the_newest_comes_and_the_held_one_stays(steps):
    memory = create_memory()
    reader, writer = FrameReader(memory), FrameWriter(memory)
    published, taken, held, before = -1, -1, None, None
    for is_write, height, width in steps:
        if is_write:
            published += 1
            publish(writer, published, (height, width))
            shape = (height, width, 3)
        else:
            frame = reader.take()
            assert (frame is None) == (published == taken)
            if frame is not None:
                assert frame.number == taken + (published - taken) == published
                assert frame.image_hwc_rgb_u8.shape == shape
                taken, held, before = published, frame.image_hwc_rgb_u8, frame.image_hwc_rgb_u8.copy()
                assert (before == published % 251).all()
        if held is not None:
            assert np.array_equal(held, before)
    os.close(memory)


@pytest.mark.slow
def test_a_frame_is_never_torn_while_another_process_writes(memory):
    reader, writer = FrameReader(memory), start(WRITE_FOR_EVER, memory)
    taken = []
    end_s = time.monotonic() + 60
    while len(taken) < 2000 and time.monotonic() < end_s:
        frame = reader.take()
        if frame is None:
            time.sleep(0.0005)
            continue
        taken.append(frame.number)
        assert (frame.image_hwc_rgb_u8 == frame.number % 251).all()
        if len(taken) % 100 == 0:
            time.sleep(0.01)
            assert (frame.image_hwc_rgb_u8 == frame.number % 251).all()
    writer.kill()
    writer.communicate()
    assert len(taken) == 2000
    assert all(later > earlier for earlier, later in itertools.pairwise(taken))
    assert taken[-1] > len(taken)  # some were skipped


def test_a_process_that_is_stopped_with_the_lock_does_not_stop_the_reader(memory):
    reader = FrameReader(memory)
    publish(FrameWriter(memory), 0)
    holder = start(HOLD_THE_LOCK, memory)
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGSTOP)
    started_s = time.monotonic()
    assert reader.take() is None
    assert time.monotonic() - started_s < 10
    holder.kill()
    holder.communicate()
    assert reader.take().number == 0


def test_a_held_frame_outlives_everything_else():
    memory = create_memory()
    descriptors = count_open_files()
    reader, writer = FrameReader(memory), FrameWriter(memory)
    publish(writer, 7)
    frame = reader.take()
    os.close(memory)
    del reader, writer
    assert (frame.image_hwc_rgb_u8 == 7).all()
    del frame
    assert count_open_files() == descriptors - 1


@pytest.mark.parametrize("size_hw", [(1, MAX_PIXELS + 1), (100_000, 100_000), (0, 5)])
def test_a_frame_that_does_not_fit_is_refused(memory, size_hw):
    with pytest.raises(SourceError, match=f"{size_hw[1]}x{size_hw[0]}, expected at most 12.6 million pixels"):
        FrameWriter(memory).slot(*size_hw)


def test_every_slot_holds_the_largest_frame(memory):
    reader, writer = FrameReader(memory), FrameWriter(memory)
    for number in range(4):
        # Only the last row: untouched memory costs nothing.
        writer.slot(3072, 4096)[-1] = number + 1
        writer.publish((3072, 4096), number, time_s=0.0, is_live=False, started_s=0.0, decode_ms=0.0)
        assert (reader.take().image_hwc_rgb_u8[-1] == number + 1).all()


@pytest.mark.parametrize("slot_height_width", [(3, 4, 6), (-1, 4, 6), (0, 1 << 40, 6), (0, 0, 6), (0, 4, -6)])
def test_a_record_that_makes_no_sense_is_an_error(memory, slot_height_width):
    reader, writer = FrameReader(memory), FrameWriter(memory)
    publish(writer, 0)
    os.pwrite(memory, b"".join(value.to_bytes(8, "little", signed=True) for value in slot_height_width), 64)
    with pytest.raises(SourceError, match="impossible frame"):
        reader.take()
    # The lock was given back.
    other = start(TRY_THE_LOCK, memory)
    other.communicate()
    assert other.returncode == 0
