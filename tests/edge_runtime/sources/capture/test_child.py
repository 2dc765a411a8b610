"""What the capturing process does with what cameras give it: fake devices, damaged images."""

import os
import time

import cv2
import numpy as np
import pytest

from edge_runtime.errors import ImageError
from edge_runtime.sources.capture import local_cameras
from edge_runtime.sources.capture.child import run
from edge_runtime.sources.capture.local_cameras import V4l2Camera
from edge_runtime.sources.capture.messages import CameraGoneError, Failure, FailureKind, Opened, Wake, decode, encode
from edge_runtime.sources.capture.shared_frames import FrameReader, FrameWriter, create_memory
from edge_runtime.sources.capture.streams import PacedVideo, Stream
from edge_runtime.sources.capture.strict_jpeg import NativeWarnings, decode_jpeg
from support.images import encode as encode_image
from support.images import plain_image

RGB = (200, 30, 60)
CLOCK = {"number": 0, "time_s": 0.0, "epoch_s": None}
ANYTHING = {"size_wh": None, "fps": None, "pixel_format": None}


def jpeg(size_hw=(48, 64)):
    """A noisy image of the colour RGB."""
    noise = np.random.default_rng(0).integers(-20, 20, (*size_hw, 3))
    return encode_image((noise + RGB[::-1]).clip(0, 255).astype(np.uint8))


def checked(data):
    """Decode with the warnings of libjpeg, as the capturing process does."""
    with NativeWarnings() as warnings:
        return decode_jpeg(data, warnings.take)


def test_whole_jpegs_are_decoded_and_damaged_ones_refused():
    whole = jpeg((240, 320))
    image = checked(whole + bytes(500))
    assert image.shape == (240, 320, 3)
    assert image.reshape(-1, 3).mean(axis=0) == pytest.approx(RGB, abs=3)
    half = len(whole) // 2
    for damaged in (
        whole[:half],
        whole[:half] + b"\xff\xd9",
        whole[:-2],
        whole[:half] + whole[half + 2000 :],
        whole[:half] + bytes(3000) + whole[half + 3000 :],
        b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n",
        b"",
    ):
        with pytest.raises(ImageError):
            checked(damaged)
    assert checked(whole).shape == (240, 320, 3)


def test_a_few_bytes_too_many_are_what_usb_cameras_send():
    says = iter(["", "Corrupt JPEG data: 2 extraneous bytes before marker 0xd5\n", "", "Corrupt JPEG data: bad code"])
    assert decode_jpeg(jpeg(), lambda: next(says)).shape == (48, 64, 3)
    with pytest.raises(ImageError):
        decode_jpeg(jpeg(), lambda: next(says))


def test_native_warnings_are_collected_and_standard_error_comes_back():
    before = os.fstat(2)
    with NativeWarnings() as warnings:
        os.write(2, b"one")
        os.write(2, b" two")
        assert warnings.take() == "one two"
        assert warnings.take() == ""
        os.write(2, b"x" * 100_000)
        assert len(warnings.take()) == 4096
    assert (os.fstat(2).st_ino, os.fstat(2).st_dev) == (before.st_ino, before.st_dev)


@pytest.mark.parametrize("message", [Opened(), Opened("640x480"), Wake(), Wake("x"), Failure("y", FailureKind.ENDED)])
def test_messages_survive_the_way(message):
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line.removesuffix(b"\n")) == message
    assert len(encode(Failure("x\n" * 100_000))) < 1000


class FakeCapture:
    """A device whose frames are a list; None is a failed grab."""

    def __init__(self, frames, properties=None, *, opened=True):
        self.frames, self.properties, self.opened = list(frames), properties or {}, opened
        self.asked = {}
        self.released = False
        self._grabbed = None

    def isOpened(self):  # noqa: N802
        return self.opened

    def grab(self):
        self._grabbed = self.frames.pop(0) if self.frames else None
        return self._grabbed is not None

    def retrieve(self):
        return True, self._grabbed

    def get(self, property_id):
        return self.properties.get(property_id, 0.0)

    def set(self, property_id, value):
        self.asked[property_id] = value
        return True

    def release(self):
        self.released = True


def driver_says(fourcc, width, height, fps):
    return {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*fourcc),
        cv2.CAP_PROP_FRAME_WIDTH: width,
        cv2.CAP_PROP_FRAME_HEIGHT: height,
        cv2.CAP_PROP_FPS: fps,
    }


def test_a_v4l2_camera_is_asked_and_what_it_gives_instead_is_told():
    spec = {"size_wh": [1920, 1080], "fps": 30.0, "pixel_format": "MJPG"}
    capture = FakeCapture([], driver_says("YUYV", 1280, 720, 10))
    camera = V4l2Camera(capture, spec, str)
    assert camera.note == (
        "the camera gives 1280x720 instead of 1920x1080, 10 frames per second instead of 30, YUYV instead of MJPG"
    )
    assert capture.asked == driver_says("MJPG", 1920, 1080, 30)
    assert next(iter(capture.asked)) == cv2.CAP_PROP_FOURCC  # sizes depend on the format
    exact = FakeCapture([], driver_says("MJPG", 1920, 1080, 30))
    assert V4l2Camera(exact, spec, str).note is None
    assert V4l2Camera(FakeCapture([]), ANYTHING, str).note is None


def test_motion_jpeg_of_a_v4l2_camera_comes_undecoded_and_is_checked():
    whole = np.frombuffer(jpeg() + bytes(100), np.uint8)
    capture = FakeCapture([whole[np.newaxis], plain_image(9)], driver_says("MJPG", 64, 48, 30))
    camera = V4l2Camera(capture, ANYTHING, str)
    assert capture.asked == {cv2.CAP_PROP_CONVERT_RGB: 0}
    first = camera.read()
    assert first.is_rgb
    assert first.pixels.reshape(-1, 3).mean(axis=0) == pytest.approx(RGB, abs=3)
    assert not camera.read().is_rgb
    cut_off = V4l2Camera(FakeCapture([whole[np.newaxis, :900]]), ANYTHING, str)
    with pytest.raises(ImageError):
        cut_off.read()


def test_a_v4l2_camera_that_is_unplugged_is_gone_after_a_while(monkeypatch):
    monkeypatch.setattr(local_cameras, "GIVE_UP_S", 0.1)
    camera = V4l2Camera(FakeCapture([None, None, plain_image(1)]), ANYTHING, str)
    assert camera.read() is not None
    with pytest.raises(CameraGoneError, match="unplugged"):
        camera.read()
    refused = FakeCapture([], opened=False)
    with pytest.raises(CameraGoneError, match="cannot be opened"):
        V4l2Camera(refused, ANYTHING, str)
    assert refused.released


class FakeVideo(FakeCapture):
    """Ten frames a second; it knows timestamps, or not."""

    def __init__(self, frames, *, timestamps=True):
        super().__init__([plain_image(number) for number in range(frames)])
        self._count, self._timestamps = frames, timestamps

    def get(self, property_id):
        if property_id == cv2.CAP_PROP_FPS:
            return 10.0
        return 100.0 * (self._count - len(self.frames) - 1) if self._timestamps else 0.0


@pytest.mark.parametrize("timestamps", [True, False])
def test_a_video_is_paced_by_its_timestamps_and_goes_on_in_a_loop(timestamps):
    camera = PacedVideo(lambda: FakeVideo(3, timestamps=timestamps), loop=True)
    started_s = time.perf_counter()
    positions = []
    while len(positions) < 7:
        if grab := camera.read():
            positions.append(grab.position_s)
            assert grab.started_s - started_s >= grab.position_s - positions[0] - 0.01
    assert positions == sorted(positions)
    assert time.perf_counter() - started_s > 0.55


def test_a_video_skips_what_comes_too_late():
    camera = PacedVideo(lambda: FakeVideo(15), loop=False)
    assert camera.read() is not None
    time.sleep(0.55)
    read = [camera.read() for _ in range(8)]
    assert read[:4] == [None] * 4
    assert read[-1] is not None
    with pytest.raises(CameraGoneError) as gone:
        [camera.read() for _ in range(20)]
    assert gone.value.kind is FailureKind.ENDED
    with pytest.raises(CameraGoneError, match="no frame"):
        PacedVideo(lambda: FakeVideo(0), loop=True).read()


@pytest.mark.parametrize(("busy_share", "is_slow"), [(1.0, True), (0.3, False)])
def test_a_stream_that_cannot_be_decoded_in_time_is_opened_anew(monkeypatch, busy_share, is_slow):
    clock_s = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock_s[0])
    capture = FakeCapture([plain_image(1)] * 200)
    stream = Stream(capture, lambda: clock_s[0] * busy_share)

    def read_all():
        for number in range(190):
            clock_s[0] += 0.05  # twice as long as from image to image
            capture.properties = {cv2.CAP_PROP_POS_MSEC: 1000 + number * 25.0}
            assert stream.read() is not None

    if not is_slow:
        return read_all()
    with pytest.raises(CameraGoneError, match="choose a smaller stream") as gone:
        read_all()
    assert gone.value.kind is FailureKind.SLOW
    assert 100 < len(capture.frames) < 130
    return None


def captured(monkeypatch, frames, **clock):
    """What `run` says about a V4L2 camera that gives these frames and ends, and its last frame."""
    monkeypatch.setattr(local_cameras, "GIVE_UP_S", 0.05)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: FakeCapture(frames))
    said = []
    memory = create_memory()
    reader = FrameReader(memory)
    threads = cv2.getNumThreads()
    with NativeWarnings() as warnings:
        spec = {"kind": "v4l2", "address": 0, "loop": False, **ANYTHING, **CLOCK, **clock}
        run(spec, FrameWriter(memory), said.append, warnings.take)
    cv2.setNumThreads(threads)
    return said, reader.take()


def test_frames_become_rgb_and_are_counted_on(monkeypatch):
    bgr = plain_image(RGB[::-1], 2, 3)
    said, frame = captured(monkeypatch, [plain_image(0), bgr], number=40, epoch_s=time.perf_counter() - 100)
    assert frame.number == 41
    assert 100 <= frame.time_s < 160
    assert frame.captured_at == pytest.approx(time.time(), abs=60)
    assert (frame.image_hwc_rgb_u8 == RGB).all()
    assert said[:3] == [Opened(None), Wake(None), Wake(None)]
    assert isinstance(said[3], Failure)


def test_frames_change_size_and_damaged_ones_are_counted_but_not_given(monkeypatch):
    broken = np.frombuffer(jpeg(), np.uint8)[np.newaxis, :900]
    grey = np.full((5, 5), 77, np.uint8)
    said, frame = captured(monkeypatch, [plain_image(1), broken, plain_image(3, 8, 2), grey])
    assert frame.number == 3
    assert frame.image_hwc_rgb_u8.shape == (5, 5, 3)
    assert (frame.image_hwc_rgb_u8 == 77).all()
    assert [message.complaint is None for message in said if isinstance(message, Wake)] == [True, False, True, True]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (np.broadcast_to(np.uint8(0), (4096, 4096, 3)), "4096x4096, expected at most 12.6 million pixels"),
        (np.zeros((4, 4, 3), np.uint16), "expected 8 bits"),
        (np.zeros((4, 4, 2), np.uint8), "2 channels"),
    ],
)
def test_frames_that_cannot_be_used_end_it_for_good(monkeypatch, frame, says):
    said, _ = captured(monkeypatch, [frame])
    assert isinstance(said[-1], Failure)
    assert said[-1].kind is FailureKind.FATAL
    assert says in said[-1].reason


def test_a_driver_that_raises_is_a_failure_that_may_pass(monkeypatch):
    class Raising(FakeCapture):
        def grab(self):
            raise cv2.error("x")

    monkeypatch.setattr(local_cameras, "open_v4l2", lambda _address: Raising([]))
    said, _ = captured(monkeypatch, [])
    assert isinstance(said[-1], Failure)
    assert said[-1].kind is FailureKind.LOST
