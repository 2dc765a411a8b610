"""Sources: lazily found images, videos in order, and which one is meant by what the user typed."""

import itertools
import os
import time
from pathlib import Path

import pytest

from edge_runtime.errors import SourceError, UsageError
from edge_runtime.results import Failed
from edge_runtime.sinks.webhook import parse_webhook_url
from edge_runtime.sources.base import CaptureOptions
from edge_runtime.sources.images import find_images
from edge_runtime.sources.opening import open_source
from edge_runtime.sources.video import VideoFile
from support.files import touch
from support.images import plain_image, write_video

FRAMES = 12


@pytest.fixture
def video(tmp_path):
    """An AVI of 12 grey frames whose brightness rises by 20 from frame to frame, at 10 frames a second."""
    return write_video(tmp_path / "steps.avi", [plain_image(20 * number, 24, 32) for number in range(FRAMES)], fps=10)


def test_images_are_found_in_order_at_any_depth(tmp_path):
    names = ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "sub/deep/c.webp", "sub/.git/d.jpg")
    touch(*(tmp_path / name for name in names))
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "z.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    found = list(find_images([tmp_path, tmp_path / "notes.txt"]))
    names = ["a.PNG", "b.jpg", "sub/deep/c.webp", "z.jpg", "notes.txt"]
    assert found == [tmp_path / name for name in names]


def test_what_is_missing_or_empty_stands_in_its_place(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.jpg").touch()
    first, second, third = find_images([tmp_path / "none", tmp_path / "a.jpg", tmp_path / "empty"])
    assert isinstance(first, Failed)
    assert (first.error_type, first.message) == ("DataError", "no such file or folder")
    assert second == tmp_path / "a.jpg"
    assert isinstance(third, Failed)
    assert "holds no images" in third.message


def test_images_are_found_lazily(tmp_path):
    (tmp_path / "a.jpg").touch()

    def paths():
        yield tmp_path
        raise AssertionError("the second path was asked for before the first was used")

    assert next(find_images(paths())) == tmp_path / "a.jpg"


def test_a_video_gives_every_frame_in_order_with_its_time(video):
    with open_source(str(video)) as source:
        frames = list(source.frames())
    assert [frame.number for frame in frames] == list(range(FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in range(FRAMES)], abs=0.001)
    assert [round(float(frame.image_hwc_rgb_u8.mean()) / 20) for frame in frames] == list(range(FRAMES))
    assert all(frame.captured_at is None and frame.decode_ms > 0 for frame in frames)


def test_video_frames_are_rgb(tmp_path):
    (frame,) = VideoFile(write_video(tmp_path / "red.avi", [plain_image((0, 0, 255), 32, 32)])).frames()
    red, green, blue = frame.image_hwc_rgb_u8.reshape(-1, 3).mean(axis=0)
    assert red > 200 > 50 > max(green, blue)


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("none.mp4", SourceError, "no such video"),
        ("text.mp4", SourceError, "not a video"),
        (".", SourceError, "got a folder"),
        ("photo.jpg", UsageError, "edge-run classify"),
        ("ftp://host/x", UsageError, "rtsp://"),
    ],
)
def test_sources_that_cannot_be_opened_say_why(tmp_path, monkeypatch, name, error, says):
    monkeypatch.chdir(tmp_path)
    Path("text.mp4").write_text("this is no video\n" * 50, encoding="utf-8")
    Path("photo.jpg").touch()
    with pytest.raises(error, match=says):
        open_source(name)


def test_a_video_without_a_whole_frame_is_an_error(video):
    data = video.read_bytes()
    video.write_bytes(data[: data.index(b"movi") + 8])
    with pytest.raises(SourceError):
        list(open_source(str(video)).frames())


@pytest.mark.parametrize("name", ["99", "/dev/video99"])
def test_a_camera_that_is_not_there_says_what_to_check(name):
    with pytest.raises(SourceError, match=f"{name}: cannot be opened; check that it is plugged in"):
        next(open_source(name).frames())


@pytest.mark.parametrize(
    "address",
    [f"http://{text}@cam/1" for text in ("me:S/S", "me:S#S", "me:S?S", "me:12/S", "me:#S", "me:/S@S", "S#S", "S?S")],
)
def test_a_password_that_is_not_percent_encoded_is_said_and_not_printed(address):
    for parse, name in ((open_source, "--source"), (parse_webhook_url, "--webhook")):
        with pytest.raises(UsageError, match=f"^{name}: the address has .* percent-encoded, as %2F") as error:
            parse(address)
        assert "S" not in str(error.value).replace("--", "")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:se:cret@cam/1", "rtsp://me:***@cam/1"),
        ("rtsp://me:p%2Fa@ss@cam/1", "rtsp://me:***@cam/1"),
        ("http://cam:80/s?mail=a@b", "http://cam:***@b"),
        ("http://cam/x@y", "http://***@y"),
        ("rtsp://cam:554/1", "rtsp://cam:554/1"),
        (
            "http://cam/snap.cgi?user=me&pwd=s1&auth_token=s2;Password=s3&size=2#top",
            "http://cam/snap.cgi?user=me&pwd=***&auth_token=***;Password=***&size=2#top",
        ),
    ],
)
def test_passwords_and_secrets_in_a_query_are_not_printed(address, shown):
    assert open_source(address).name == shown


def test_a_video_in_a_loop_goes_on_counting_until_its_time_is_up(video):
    with open_source(str(video), CaptureOptions(loop=True)) as source:
        frames = list(itertools.islice(source.frames(), 3 * FRAMES))
    assert [frame.number for frame in frames] == list(range(3 * FRAMES))
    assert [frame.time_s for frame in frames] == pytest.approx([number / 10 for number in range(3 * FRAMES)], abs=0.001)
    with open_source(str(video), CaptureOptions(loop=True)) as source:
        frames = list(source.frames(time.perf_counter() + 0.2))
    assert len(frames) > FRAMES


def test_a_closed_video_gives_nothing_more(video):
    source = open_source(str(video), CaptureOptions(loop=True))
    frames = source.frames()
    next(frames)
    source.close()
    source.close()
    assert list(frames) == []


@pytest.mark.parametrize("text", ["0", "/dev/video0", "/dev/v4l/by-id/usb-cam-video-index0", "picamera", "picamera:1"])
def test_cameras_are_opened_only_when_frames_are_asked_for(text):
    source = open_source(text, CaptureOptions(size_wh=(640, 480), fps=30))
    assert (source.name, source.live) == (text, True)
    source.close()
    assert list(source.frames()) == []


@pytest.mark.slow
def test_a_real_video_is_played_to_its_end(real_data):
    count = 0
    for frame in open_source(str(real_data("video") / "cockatoo.mp4")).frames():
        assert (frame.number, frame.image_hwc_rgb_u8.shape) == (count, (720, 1280, 3))
        count += 1
    assert count == 280
    assert frame.time_s == pytest.approx(13.95, abs=0.01)
