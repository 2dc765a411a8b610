"""``edge-run camera`` as a process with every sink on: what breaks around it, and what it does about that."""

import contextlib
import importlib.util
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.testing.cameras import STREAM_HEAD, FakeHttpCamera, stream_part
from support.files import small_file_system
from support.mqtt import Mosquitto, needs_mosquitto
from support.paths import CHECKOUT
from support.waiting import is_running, wait_until

pytestmark = [
    pytest.mark.slow,  # tens of seconds of waiting for deadlines to pass
    pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="aiohttp is not installed (extra web)"),
]

PATIENCE_S = 60.0
needs_paho = pytest.mark.skipif(not importlib.util.find_spec("paho"), reason="paho-mqtt is not installed (extra mqtt)")
IMAGES = [
    stream_part(cv2.imencode(".jpg", np.full((48, 64, 3), bgr, np.uint8))[1].tobytes())
    for bgr in ((20, 20, 200), (20, 200, 20))
]


def show(send, frames):
    """Half a second of red, half a second of green, and so on, at 20 frames a second."""
    for number in itertools.islice(itertools.count(), frames):
        send(IMAGES[number // 10 % 2])
        time.sleep(0.05)


def steady(_number, _request, send):
    send(STREAM_HEAD)
    show(send, None)


class Run:
    """One ``edge-run camera`` with a page, whose state is asked over HTTP."""

    def __init__(self, folder, *arguments, environment=None):
        self.errors = folder / f"errors-{time.monotonic_ns()}"
        program = [sys.executable, "-m", "edge_runtime.cli", "camera", *map(str, arguments), "--web", "0"]
        program += ["--every", "event", "--min-interval", "0.2"]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                program, stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, **(environment or {})}
            )
        wait_until(self._address, "the page's address")
        wait_until(lambda: self.state()["answered"] > 0, "an answer")

    def _address(self):
        assert self.process.poll() is None, self.errors.read_text()
        found = re.search(r"http://127\.0\.0\.1:([0-9]+)/\n", self.errors.read_text())
        return found[0].strip() if found else ""

    def state(self):
        with urllib.request.urlopen(f"{self._address()}api/state", timeout=20) as answer:  # noqa: S310  http, see above
            state = json.load(answer)
        assert isinstance(state, dict)
        return state

    def problem(self, name):
        return next(sink["problem"] for sink in self.state()["sinks"] if sink["name"] == name)

    def goes_on(self):
        before = self.state()["answered"]
        wait_until(lambda: self.state()["answered"] > before + 5, "further answers")

    def children(self):
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self):
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.errors.read_text()
        wait_until(lambda: not any(map(is_running, children)), "the end of the capture process")
        return self.errors.read_text()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def running(tmp_path, tiny_bundle):
    """Start ``edge-run camera`` at a camera that never stops."""

    @contextlib.contextmanager
    def start(*arguments, **more):
        with (
            FakeHttpCamera(steady) as camera,
            Run(tmp_path, tiny_bundle, "--source", camera.url, *arguments, **more) as run,
        ):
            yield run

    return start


def records(path):
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def images(folder):
    return [path for path in folder.glob("*/*.jpg") if not path.name.startswith(".")]


@pytest.fixture
def broker(tmp_path):
    broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@needs_mosquitto
@needs_paho
def test_with_every_sink_on_a_camera_stops_hangs_and_comes_back(tmp_path, tiny_bundle, receiver, broker):
    def script(number, request, send):
        if number > 1:
            steady(number, request, send)
        send(STREAM_HEAD)
        show(send, 30)
        time.sleep(number * PATIENCE_S)  # the first connection ends, the second hangs

    output, saved = tmp_path / "out.jsonl", tmp_path / "saved"
    sinks = ["--output", output, "--save-frames", saved, "--save-interval", "0", "--webhook", receiver.url]
    sinks += ["--mqtt", f"mqtt://127.0.0.1:{broker.port}", "--name", "door"]
    with (
        FakeHttpCamera(script) as camera,
        Run(tmp_path, tiny_bundle, "--source", camera.url, "--stall-timeout", "1.5", *sinks) as run,
    ):
        wait_until(lambda: run.state()["reconnects"] >= 2, "the camera's second return")
        run.goes_on()
        wait_until(lambda: not any(sink["problem"] for sink in run.state()["sinks"]), "no problem anywhere")
        events = run.state()["event_count"]
        said = run.stop()
    assert re.search(r"[0-9]+ frames in .*, [0-9]+ events, 2 reconnects, .*, stopped\n$", said)
    states = [record["state"] for record in records(output) if "state" in record]
    assert (states[:2], states[-1]) == (["connected", "reconnecting"], "connected")
    assert "stalled" in states
    written = sum("decision" in record for record in records(output))
    assert events <= written
    assert len(images(saved)) >= events - 1  # a decision may come from a frame that says something else
    for path in images(saved):
        assert cv2.imread(str(path)) is not None
    posted = [body for body in receiver.bodies() if body.get("decision", {}).get("event")]
    assert events <= len(posted) <= written
    assert {body["name"] for body in receiver.bodies()} == {"door"}


@needs_mosquitto
@needs_paho
def test_a_broker_that_hangs_dies_and_comes_back_stops_nothing(running, broker):
    with running("--mqtt", f"mqtt://127.0.0.1:{broker.port}") as run:
        wait_until(lambda: run.problem("mqtt") is None, "the broker")
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: "acknowledged nothing" in (run.problem("mqtt") or ""), "the broker's silence to be noticed")
        run.goes_on()
        broker.process.send_signal(signal.SIGCONT)
        wait_until(lambda: run.problem("mqtt") is None, "the broker's waking")
        broker.stop()
        wait_until(lambda: "refuses connections" in (run.problem("mqtt") or ""), "the broker's death to be noticed")
        run.goes_on()
        # A log has no line that updates itself, so the trouble is told there too.
        wait_until(lambda: "warning: mqtt: " in run.errors.read_text(), "a line of the broker's trouble")
        broker.start()
        wait_until(lambda: run.problem("mqtt") is None, "the broker's return")
        wait_until(lambda: "\nmqtt: works again\n" in run.errors.read_text(), "a line of its end")
        run.stop()


@pytest.fixture
def large_disk(tmp_path):
    with small_file_system(tmp_path / "disk", "130m") as folder:
        yield folder


def fill(folder):
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1 << 12))
    return filler


def test_a_full_disk_is_told_and_over_when_there_is_room_again(running, large_disk):
    output, saved = large_disk / "out.jsonl", large_disk / "saved"
    with running("--output", output, "--save-frames", saved) as run:
        wait_until(lambda: output.exists() and images(saved), "a row and an image")
        filler = fill(large_disk)
        wait_until(lambda: run.problem("output") == "No space left on device", "the full disk to be told of the rows")
        wait_until(lambda: "100 MB of disk would be left" in (run.problem("save-frames") or ""), "... of the images")
        run.goes_on()
        filler.unlink()
        wait_until(lambda: not run.problem("output") and not run.problem("save-frames"), "both to go on")
        wait_until(lambda: images(saved), "a new image")
        said = run.stop()
        assert re.search(r"warning: output: [0-9]+ results? not passed on\n", said)
        assert records(output)[-1]["decision"]["event"]


def test_a_clock_that_jumps_changes_nothing_but_times(running, tmp_path):
    offset, saved = tmp_path / "offset", tmp_path / "saved"
    offset.write_text("0")
    jump = f"lambda real=time.time: real() + float(pathlib.Path({str(offset)!r}).read_text() or 0)"
    (tmp_path / "sitecustomize.py").write_text(f"import pathlib, time\ntime.time = {jump}\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), str(CHECKOUT)])
    arguments = ["--save-frames", saved, "--save-interval", "0", "--stall-timeout", "4"]
    with running(*arguments, environment={"PYTHONPATH": path}) as run:
        for year_s in (400 * 86400, -400 * 86400):
            offset.write_text(str(year_s))
            before, had = run.state(), len(images(saved))
            wait_until(lambda had=had: len(images(saved)) > had + 1, "images with another date")
            run.goes_on()
            after = run.state()
            assert after["event_count"] > before["event_count"]
            assert after["trouble"] is None
            assert 0 <= after["age_ms"]["p50"] < 1000 * PATIENCE_S
            assert 0 < after["uptime_s"] - before["uptime_s"] < 2 * PATIENCE_S
        assert run.state()["reconnects"] == 0
        run.stop()
    years = {path.name[:4] for path in images(saved)}
    assert len(years) >= 2, years


def test_a_camera_that_comes_late_with_damaged_images_of_many_sizes(tmp_path, tiny_bundle):
    def script(_number, _request, send):
        send(STREAM_HEAD)
        for size in itertools.cycle((64, 1920, 8, 640)):
            whole = cv2.imencode(".jpg", np.full((size, size, 3), (20, 20, 200), np.uint8))[1].tobytes()
            for data in (whole, whole[: len(whole) // 2], b"", b"junk", whole):
                send(stream_part(data))
                time.sleep(0.05)

    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    saved = tmp_path / "saved"
    url = f"http://127.0.0.1:{port}/cam"
    with contextlib.ExitStack() as stack:
        late = threading.Timer(2.0, lambda: stack.enter_context(FakeHttpCamera(script, port)))
        late.start()
        arguments = ["--wait", "--save-frames", saved, "--save", "both", "--threshold", "0.9", "--save-interval", "0"]
        with Run(tmp_path, tiny_bundle, "--source", url, *arguments) as run:
            late.join()
            wait_until(lambda: len({cv2.imread(str(path)).shape for path in images(saved)}) == 4, "all four sizes")
            assert run.state()["reconnects"] == 0
            run.stop()


def test_killed_in_the_middle_it_goes_on_with_the_same_file(tmp_path, tiny_bundle):
    output, saved = tmp_path / "out.jsonl", tmp_path / "saved"
    with FakeHttpCamera(steady) as camera:
        arguments = [tiny_bundle, "--source", camera.url, "--output", output, "--save-frames", saved]
        for _ in range(2):
            size = output.stat().st_size if output.exists() else 0
            with Run(tmp_path, *arguments, "--save-interval", "0") as run:
                wait_until(lambda size=size: output.exists() and output.stat().st_size > size + 500, "rows")
                children = run.children()
                assert children
                run.process.kill()
                wait_until(lambda children=children: not any(map(is_running, children)), "the capture process's end")
            assert run.process.wait() == -signal.SIGKILL
            with output.open("ab") as file:
                file.write(b'{"source": "http://127.0.0.1/cam", "fra')  # as a cut of power leaves it
        with Run(tmp_path, *arguments) as run:
            run.goes_on()
            run.stop()
    assert [record["state"] for record in records(output) if "state" in record] == ["connected"] * 3
    assert images(saved)
    assert not list(saved.glob("*/.*partial"))


def test_clients_that_never_read_hold_nothing_up(running):
    with running() as run:
        port = int(run._address().rsplit(":", 1)[1].strip("/"))
        with contextlib.ExitStack() as stack:
            for path in ["/events"] * 10 + ["/frame.jpg?after=0"] * 10 + [""] * 20:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
                client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() if path else b"GE")
            before, began_s = run.state()["answered"], time.monotonic()
            time.sleep(4)
            rate = (run.state()["answered"] - before) / (time.monotonic() - began_s)
            assert rate > 10, "the camera gives 20 frames a second"
            assert not run.state()["trouble"]
            run.stop()


def test_two_programs_cannot_have_one_file_folder_or_port(tmp_path, tiny_bundle):
    output, saved = tmp_path / "out.jsonl", tmp_path / "saved"
    with (
        FakeHttpCamera(steady) as camera,
        Run(tmp_path, tiny_bundle, "--source", camera.url, "--output", output, "--save-frames", saved) as run,
    ):
        port = run._address().rsplit(":", 1)[1].strip("/")
        for option, value, says in (
            ("--output", output, "another edge-run is writing there"),
            ("--save-frames", saved, "another edge-run is writing there"),
            ("--web", port, "Address already in use"),
        ):
            program = [sys.executable, "-m", "edge_runtime.cli", "camera", tiny_bundle, "--source", camera.url]
            done = subprocess.run(
                [*program, option, str(value)], capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            assert (done.returncode, done.stdout) == (7, "")
            assert done.stderr.startswith("error: ")
            assert says in done.stderr
            assert done.stderr.count("\n") == 1
        run.goes_on()
        run.stop()
    assert records(output)
