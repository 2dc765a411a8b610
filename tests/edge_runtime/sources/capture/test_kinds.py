"""Each kind of live source through its own process: HTTP in its varieties, ffmpeg as a server, files, picamera2."""

import base64
import contextlib
import hashlib
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from edge_runtime.errors import SourceError, UsageError
from edge_runtime.results import SourceState, StateChange
from edge_runtime.sources.base import CaptureOptions, Frame
from edge_runtime.sources.opening import open_source
from edge_runtime.testing.cameras import STREAM_HEAD, FakeHttpCamera, grey_jpeg, stream_part
from support.http import free_port
from support.images import plain_image, write_video

PATIENCE_S = 60.0
PATIENT = CaptureOptions(open_timeout_s=PATIENCE_S, stall_timeout_s=PATIENCE_S)
FAKE_PICAMERA2 = """
import time, numpy as np
class Picamera2:
    def __init__(self, number):
        if number == 9:
            raise IndexError("list index out of range")
    def create_video_configuration(self, main, controls, queue):
        assert queue is False and main["format"] == "RGB888"
        return {"main": {**main, "size": (640, 480)}, "controls": controls}
    def configure(self, configuration):
        self.configuration = configuration
    def camera_configuration(self):
        return self.configuration
    def start(self):
        self.started = True
    def capture_array(self, name):
        assert self.started and name == "main"
        time.sleep(0.02)
        return np.full((480, 640, 3), (60, 30, 200), np.uint8)
    def stop(self): ...
    def close(self): ...
"""


def given_by(source_text, options=PATIENT, count=3):
    """The first things that a source gives; the images are copied."""
    with open_source(source_text, options) as source:
        return [
            replace(item, image_hwc_rgb_u8=item.image_hwc_rgb_u8.copy()) if isinstance(item, Frame) else item
            for item in itertools.islice(source.frames(time.perf_counter() + PATIENCE_S), count)
        ]


def frames_of(given):
    return [item for item in given if isinstance(item, Frame)]


def answer(kind, body, status="200 OK", more=""):
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def play(send):
    send(STREAM_HEAD)
    while True:
        send(stream_part(grey_jpeg(120)))
        time.sleep(0.05)


def test_snapshots_are_fetched_at_the_rate_that_was_asked_for():
    times_s = []

    def script(number, _request, send):
        times_s.append(time.perf_counter())
        send(answer("image/jpeg", grey_jpeg(number * 10)))

    with FakeHttpCamera(script) as server:
        options = CaptureOptions(fps=8, open_timeout_s=PATIENCE_S)
        frames = frames_of(given_by(server.url, options, count=5))
    assert [round(float(frame.image_hwc_rgb_u8.mean()) / 10) for frame in frames] == [0, 1, 2, 3]
    assert times_s[3] - times_s[0] > 3 / 8 - 0.05


def test_a_stream_without_lengths_and_with_strange_headers_is_read():
    def script(_number, _request, send):
        send(b'HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary="--b;x"\r\n\r\n')
        for _ in range(1000):
            send(b"\n--b;x\ncontent-type:image/jpeg\nX: y\n\n" + grey_jpeg(33) + b"\n")
            time.sleep(0.03)

    with FakeHttpCamera(script) as server:
        frames = frames_of(given_by(server.url))
    assert all(round(float(frame.image_hwc_rgb_u8.mean())) == 33 for frame in frames)


@pytest.mark.parametrize("chunked", [True, False])
def test_a_stream_of_known_length_is_read_to_its_end(chunked):
    body = stream_part(grey_jpeg(80)) + b"--f"
    head = STREAM_HEAD.removesuffix(b"\r\n")

    def script(_number, _request, send):
        if chunked:
            send(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
        else:
            send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    with FakeHttpCamera(script) as server:
        connected, frame, change = given_by(server.url)
    assert [type(item) for item in (connected, frame, change)] == [StateChange, Frame, StateChange]
    assert (change.state, change.reason) == (SourceState.RECONNECTING, "the server ended the stream")


def test_basic_and_digest_passwords_are_given_when_asked():
    def basic(_number, request, send):
        if b"Basic " + base64.b64encode(b"me:p@ss") in request:
            play(send)
        send(answer("text/plain", b"", "401 No", 'WWW-Authenticate: Basic realm="cam"\r\n'))

    def digest(_number, request, send):
        found = re.search(rb'Digest .*?response="([0-9a-f]{32})"', request)
        inner = hashlib.md5(b"me:cam:p@ss").hexdigest(), hashlib.md5(b"GET:/cam").hexdigest()  # noqa: S324
        wanted = hashlib.md5(f"{inner[0]}:1:{inner[1]}".encode()).hexdigest()  # noqa: S324
        if found and found[1].decode() == wanted:
            play(send)
        send(answer("text/plain", b"", "401 No", 'WWW-Authenticate: Digest realm="cam", nonce="1"\r\n'))

    for script in (basic, digest):
        with FakeHttpCamera(script) as server:
            url = server.url.replace("://", "://me:p%40ss@")
            assert len(frames_of(given_by(url))) == 2
            with pytest.raises(SourceError, match="answered 401: user name or password") as error:
                given_by(url.replace("p%40ss", "wrong"))
            assert "wrong" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "header", "body"),
    [
        ("302 Found", "Location: file://{}\r\n", ""),
        ("200 OK", "", "#EXTM3U\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n"),
        ("200 OK", "", "ffconcat version 1.0\nfile 'file:{}'\n"),
    ],
    ids=["redirect", "playlist", "concat"],
)
def test_no_answer_leads_to_a_file_of_this_machine(tmp_path, status, header, body):
    video = grey_steps(tmp_path / "secret.avi")
    kind = "application/x-mpegurl" if "EXTM3U" in body else "text/plain"
    reply = answer(kind, body.format(video).encode(), status, header.format(video))
    server = FakeHttpCamera(lambda _number, _request, send: send(reply))
    with server, pytest.raises(SourceError, match="check the address"):
        given_by(server.url)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (answer("text/html", b"<p>hello</p>"), "cannot be opened"),
        (answer("text/plain", b"", "404 Not Found"), "the server answered 404"),
        (b"SSH-2.0-OpenSSH\r\n", "cannot be opened"),
        (STREAM_HEAD, "the server ended the stream"),
        (STREAM_HEAD + b"--f\r\nContent-Length: 999999999\r\n\r\n", "announces an image of 999999999 bytes"),
        # Every attempt is answered, so it takes all of the time for opening.
        pytest.param(
            answer("image/jpeg", grey_jpeg(1))[:-40],
            "IncompleteRead|cut off|damaged|without its end",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_server_that_is_no_camera_is_one_sentence(reply, says):
    with (
        FakeHttpCamera(lambda _number, _request, send: send(reply)) as server,
        pytest.raises(SourceError, match=says) as error,
    ):
        given_by(server.url, CaptureOptions(open_timeout_s=5))
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def ffmpeg():
    if program := shutil.which("ffmpeg"):
        return program
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="neither ffmpeg nor imageio-ffmpeg is installed")
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@pytest.mark.parametrize(
    ("output", "scheme"),
    [
        (["-f", "mpjpeg", "-content_type", "multipart/x-mixed-replace;boundary=ffmpeg"], "http"),
        (["-c:v", "mpeg2video", "-g", "5", "-f", "mpegts"], "http"),
        (["-c:v", "mpeg2video", "-g", "5", "-f", "mpegts"], "tcp"),
    ],
)
def test_streams_of_ffmpeg_are_read(ffmpeg, output, scheme):
    port = free_port()
    image = ["-re", "-f", "lavfi", "-i", "color=c=0xC81E3C:size=320x240:rate=25"]
    listen = ["-listen", "1", f"http://127.0.0.1:{port}/x"] if scheme == "http" else [f"tcp://127.0.0.1:{port}?listen"]
    # It serves one connection, and FFmpeg's streams take a second one after ours has looked at their type.
    source = open_source(f"{scheme}://127.0.0.1:{port}/x", CaptureOptions(wait=True, open_timeout_s=PATIENCE_S))
    with source, serving([ffmpeg, "-v", "quiet", *image, *output, *listen]):
        frames = (item for item in source.frames(time.perf_counter() + PATIENCE_S) if isinstance(item, Frame))
        for frame in itertools.islice(frames, 3):
            assert frame.image_hwc_rgb_u8.shape == (240, 320, 3)
            assert frame.image_hwc_rgb_u8.reshape(-1, 3).mean(axis=0) == pytest.approx((200, 30, 60), abs=6)


@contextlib.contextmanager
def serving(command):
    """Run a program again and again, because ffmpeg as a server ends with its first client."""
    process = subprocess.Popen(
        ["sh", "-c", 'while :; do "$@"; sleep 0.1; done', "sh", *command], start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def grey_steps(path):
    return write_video(path, [plain_image(20 * number, 48, 64) for number in range(10)])


def test_a_video_in_real_time_ends_or_goes_on(tmp_path):
    video = grey_steps(tmp_path / "v.avi")
    first, *frames, last = given_by(str(video), CaptureOptions(realtime=True), count=100)
    assert (first.state, last.state) == (SourceState.CONNECTED, SourceState.ENDED)
    for frame in frames:
        assert isinstance(frame, Frame)
        assert frame.captured_at is None
        assert frame.time_s == pytest.approx(frame.number / 20, abs=0.001)
        assert round(float(frame.image_hwc_rgb_u8.mean()) / 20) == frame.number
    looped = frames_of(given_by(str(video), CaptureOptions(realtime=True, loop=True), count=40))
    assert looped[-1].number > 20
    assert looped[-1].time_s == pytest.approx(looped[-1].number / 20, abs=0.2)
    assert [frame.number for frame in looped] == sorted({frame.number for frame in looped})


def test_picamera2_is_used_where_it_is_installed(tmp_path, monkeypatch):
    (tmp_path / "picamera2.py").write_text(FAKE_PICAMERA2, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    change, frame = given_by("picamera:1", CaptureOptions(size_wh=(1920, 1080), fps=30), count=2)
    assert change.reason == "the camera gives 640x480 instead of 1920x1080"
    assert frame.image_hwc_rgb_u8[0, 0].tolist() == [200, 30, 60]
    with pytest.raises(SourceError, match=r"picamera:9: cannot be opened \(list index out of range\); check its cable"):
        given_by("picamera:9")


def test_without_picamera2_it_is_said_how_to_install_it(tmp_path, monkeypatch):
    (tmp_path / "picamera2.py").write_text("raise ImportError('No module named picamera2')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceError, match=r"sudo apt install python3-picamera2 .* --system-site-packages") as error:
        given_by("picamera", CaptureOptions(wait=True))
    assert error.value.exit_code == 6


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("rtsp://me:secret@x/", CaptureOptions(size_wh=(1, 1)), r"--size is for a camera at .* rtsp://me:\*\*\*@x/"),
        ("rtsp://x/", CaptureOptions(fps=3), "--fps is for"),
        ("0", CaptureOptions(loop=True), "--loop is for a video file, not for --source 0"),
        ("picamera", CaptureOptions(pixel_format="mjpeg"), "--pixel-format is for"),
        ("0", CaptureOptions(pixel_format="jpeg2000"), "--pixel-format jpeg2000: expected a name such as mjpeg"),
        ("v.mp4", CaptureOptions(fps=3), "--fps is for"),
    ],
)
def test_options_that_a_source_does_not_have_are_refused(source, options, says):
    with pytest.raises(UsageError, match=says):
        open_source(source, options)
