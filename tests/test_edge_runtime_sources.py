"""Sources: lazily found pictures, videos in order, live sources that never queue and never hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import SourceError, UsageError
from edge_runtime.results import Failed
from edge_runtime.sources.images import find_images
from edge_runtime.sources.live import LiveSource
from edge_runtime.sources.opening import open_source, without_password
from edge_runtime.sources.video import VideoFile

FRAMES = 12


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """An AVI of 12 grey frames whose brightness rises by 20 from frame to frame, at 10 frames a second."""
    path = tmp_path / "steps.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for number in range(FRAMES):
        writer.write(np.full((24, 32, 3), 20 * number, np.uint8))
    writer.release()
    return path


def test_pictures_are_found_in_order_at_any_depth(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/deep/c.webp", "sub/.git/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "z.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    found = list(find_images([tmp_path, tmp_path / "notes.txt"]))
    names = ["a.PNG", "b.jpg", "sub/deep/c.webp", "z.jpg", "notes.txt"]
    assert found == [tmp_path / name for name in names]


def test_what_is_missing_or_empty_stands_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jpg").touch()
    first, second, third = find_images([tmp_path / "none", tmp_path / "a.jpg", tmp_path / "empty"])
    assert isinstance(first, Failed)
    assert (first.error_type, first.message) == ("DataError", "no such file or folder")
    assert second == tmp_path / "a.jpg"
    assert isinstance(third, Failed)
    assert "holds no pictures" in third.message


def test_pictures_are_found_lazily(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()

    def paths() -> Iterator[Path]:
        yield tmp_path
        raise AssertionError("the second path was asked for before the first was used")

    assert next(find_images(paths())) == tmp_path / "a.jpg"


def test_a_video_gives_every_frame_in_order_with_its_time(video: Path) -> None:
    source = open_source(str(video))
    frames = list(source.frames())
    source.close()
    assert [frame.number for frame in frames] == list(range(FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in range(FRAMES)], abs=0.001)
    assert [round(float(frame.image_hwc_rgb_u8.mean()) / 20) for frame in frames] == list(range(FRAMES))
    assert all(frame.captured_at is None and frame.decode_ms > 0 for frame in frames)


def test_video_frames_are_rgb(tmp_path: Path) -> None:
    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))
    writer.release()
    (frame,) = VideoFile(path).frames()
    red, green, blue = frame.image_hwc_rgb_u8.reshape(-1, 3).mean(axis=0)
    assert red > 200 > 50 > max(green, blue)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("none.mp4", SourceError, "no such video"),
        ("text.mp4", SourceError, "not a video"),
        (".", SourceError, "got a folder"),
        ("photo.jpg", UsageError, "edge-run classify"),
        ("picamera", UsageError, "not supported yet"),
        ("ftp://host/x", UsageError, "rtsp://"),
    ],
)
def test_sources_that_cannot_be_opened_say_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("this is no video\n" * 50, encoding="utf-8")
    Path("photo.jpg").touch()
    with pytest.raises(error, match=says):
        open_source(name)


def test_a_video_without_a_whole_frame_is_an_error(video: Path) -> None:
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + 8])
    with pytest.raises(SourceError):
        list(open_source(str(video)).frames())


@pytest.mark.parametrize("name", ["99", "/dev/video99"])
def test_a_camera_that_is_not_there_says_what_to_check(name: str) -> None:
    with pytest.raises(SourceError, match=f"{name}: cannot be opened; check that it is plugged in"):
        next(open_source(name).frames())


def test_a_password_is_not_printed() -> None:
    assert without_password("rtsp://me:se:cret@cam/1") == "rtsp://me:***@cam/1"
    assert without_password("rtsp://cam:554/1") == "rtsp://cam:554/1"
    assert open_source("rtsp://me:secret@cam/1").name == "rtsp://me:***@cam/1"


class FakeCapture:
    """A camera whose n-th frame has brightness n. It gives a frame each time the test allows one."""

    def __init__(self, *, opened: bool = True) -> None:
        self.opened, self.released = opened, threading.Event()
        self.allowed = threading.Semaphore(0)
        self.waiting = threading.Event()
        self.grabbed = 0

    def isOpened(self) -> bool:  # noqa: N802
        return self.opened

    def grab(self) -> bool:
        self.waiting.set()
        self.allowed.acquire()
        self.waiting.clear()
        self.grabbed += 1
        return True

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        return True, np.full((4, 4, 3), self.grabbed - 1, np.uint8)

    def get(self, propId: int) -> float:  # noqa: N803, ARG002
        return 0.0

    def release(self) -> None:
        self.released.set()

    def give(self, frames: int) -> None:
        """Let the thread grab this many frames, and wait until it has."""
        wanted = self.grabbed + frames
        self.allowed.release(frames)
        while self.grabbed < wanted or not self.waiting.is_set():
            time.sleep(0.001)


def live(open_capture: Callable[[], FakeCapture], deadline_s: float = 30.0) -> LiveSource:
    return LiveSource("cam", open_capture, "try another", open_deadline_s=deadline_s, stall_deadline_s=deadline_s)


def test_a_live_source_gives_only_the_newest_frame() -> None:
    capture = FakeCapture()
    capture.allowed.release()
    source = live(lambda: capture)
    frames = source.frames()
    first = next(frames)
    assert first.number == 0
    assert first.time_s == 0.0
    assert first.captured_at is not None
    capture.give(5)
    second = next(frames)
    assert second.number == 5
    assert int(second.image_hwc_rgb_u8[0, 0, 0]) == 5
    capture.give(1)
    assert next(frames).number == 6
    capture.allowed.release(1000)
    source.close()
    assert capture.released.wait(10)


def test_a_live_source_that_stops_is_an_error_and_not_a_hang() -> None:
    capture = FakeCapture()
    capture.allowed.release()
    source = live(lambda: capture, deadline_s=0.5)
    frames = source.frames()
    next(frames)
    with pytest.raises(SourceError, match=r"cam: gave no frame for 0\.5 s; check its cable"):
        next(frames)
    capture.allowed.release(1000)
    source.close()


def test_a_live_source_that_ends_is_an_error() -> None:
    capture = FakeCapture()
    capture.grab = lambda: False  # type: ignore[method-assign]
    source = live(lambda: capture, deadline_s=0.2)
    with pytest.raises(SourceError, match="gave no frame"):
        next(source.frames())
    source.close()
    assert capture.released.is_set()


def test_a_live_source_that_is_refused_says_so_at_once() -> None:
    capture = FakeCapture(opened=False)
    with pytest.raises(SourceError, match="cam: cannot be opened; try another"):
        next(live(lambda: capture).frames())
    assert capture.released.wait(10)


def test_a_driver_that_blocks_while_opening_does_not_block_us() -> None:
    never = threading.Event()

    def open_capture() -> FakeCapture:
        never.wait(60)
        return FakeCapture(opened=False)

    with pytest.raises(SourceError, match=r"did not open within 0\.2 s; try another"):
        next(live(open_capture, deadline_s=0.2).frames())
    never.set()


def test_a_driver_that_fails_is_an_error() -> None:
    def open_capture() -> FakeCapture:
        raise cv2.error("broken")

    with pytest.raises(SourceError, match="cam: failed"):
        next(live(open_capture).frames())
