"""The live page's server, asked by real HTTP clients."""

import contextlib
import json
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import edge_runtime.pipeline.health
import edge_runtime.sinks.web.images as images_module
from edge_runtime.results import Classified, Failed, FrameStamp, LatencyMs, Prediction, SourceState
from edge_runtime.sinks.web.images import shrink
from support.files import count_open_files
from support.waiting import wait_until
from support.web import GREY, WebCamera

PATHS = ("/", "/app.js", "/style.css", "/icon.svg", "/events", "/frame.jpg", "/api/state", "/metrics", "/healthz")
EVENTS = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def troubled(name, dropped, problem):
    return types.SimpleNamespace(name=name, dropped=dropped, problem=problem)


@pytest.fixture
def options():
    """Parameters of the camera; a test may give others."""
    return {}


@pytest.fixture
def camera(stack, options):
    return stack.enter_context(contextlib.closing(WebCamera(**options)))


def metric(camera, name, **labels):
    text = camera.get("/metrics")[2].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next(sample.value for sample in samples if sample.name == name and sample.labels == labels)


def receive_events(camera, count):
    received = b""
    with camera.open_socket(EVENTS) as peer:
        while received.count(b"\ndata: ") < count:
            received += peer.recv(1 << 16)
    return received


def test_the_state_tells_everything_once(camera):
    camera.health.watch([troubled("mqtt", 4, "no broker")])
    camera.change()
    camera.answer(event=True)
    camera.give(Failed("0", "SourceError", "a frame was broken"))
    state = json.loads(camera.get("/api/state")[2])
    assert (state["name"], state["state"], state["trouble"], state["answered"]) == ("Feeder", "connected", None, 1)
    assert state["answer"]["label"] == "sad"
    assert [item["label"] for item in state["answer"]["top"]] == ["happy", "sad"], "bars keep the model's order"
    assert state["latency_ms"] == {"decode": 1.0, "preprocess": 2.0, "invoke": 20.0}
    assert state["age_ms"] == {"p50": 25.0, "p90": 25.0, "p99": 25.0}
    assert state["sinks"] == [{"name": "mqtt", "dropped": 4, "problem": "no broker"}]
    assert [set(event) - {"at"} for event in state["events"]] == [{"error"}, {"label", "score"}, {"state", "reason"}]


def test_events_come_as_results_do_and_at_most_eight_a_second(camera):
    camera.run()
    start_s = time.monotonic()
    received = receive_events(camera, 12)
    assert time.monotonic() - start_s > 12 / 8 - 0.3, "12 blocks within the time of fewer"
    assert b"Content-Type: text/event-stream" in received
    lines = [line[6:] for line in received.split(b"\n") if line.startswith(b"data: ") and line.endswith(b"}")]
    answered = [json.loads(line)["answered"] for line in lines]
    assert answered == sorted(answered)
    assert answered[-1] > answered[0]
    wait_until(lambda: metric(camera, "edgekit_web_streams") == 0)


def test_events_go_on_without_results(camera):
    receive_events(camera, 3)


def test_a_image_is_the_frame_made_smaller(camera):
    camera.run()
    status, headers, body = camera.get("/frame.jpg")
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert (status, headers["Content-Type"], image.shape) == (200, "image/jpeg", (360, 640, 3))
    assert abs(image.astype(int) - 90).max() <= 2
    following = camera.get(f"/frame.jpg?after={headers['X-Picture-Number']}")
    assert int(following[1]["X-Picture-Number"]) > int(headers["X-Picture-Number"])


def test_without_a_watcher_no_image_is_touched(camera):
    camera.change()
    for _ in range(50):
        camera.answer(image=object())  # would fail if anything were read from it


def test_a_image_is_encoded_once_for_all(camera, monkeypatch):
    encoded = []
    encode = images_module.encode_jpeg
    monkeypatch.setattr(images_module, "encode_jpeg", lambda image: encoded.append(1) or encode(image))
    camera.run()
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(camera.get, ["/frame.jpg?after=0"] * 40)
        numbers = [int(headers["X-Picture-Number"]) for _, headers, _ in answers]
    assert len(encoded) <= max(numbers) + 1
    assert len(encoded) < 40


@pytest.mark.parametrize("options", [{"image_waits_s": (0.2, 0.2)}], ids=["short waits"])
def test_a_camera_that_gives_no_image_is_said_not_shown(camera):
    assert camera.get("/frame.jpg?after=0")[0] == 204
    assert camera.get("/frame.jpg")[0] == 503
    camera.run()
    wait_until(lambda: camera.get("/frame.jpg")[0] == 200)
    camera.stop()
    time.sleep(1.1)
    assert camera.get("/frame.jpg")[0] == 503, "an old image is not passed off as live"
    for after in ("x", "-1", "%D9%A3", "9" * 40, "1e5", ""):
        assert camera.get(f"/frame.jpg?after={after}")[0] == 400


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((480, 640), (480, 640)),
        ((600, 800), (600, 800)),
        ((1080, 1920), (360, 640)),
        ((3040, 4056), (506, 676)),
        ((4000, 100), (1333, 33)),
        ((1, 1), (1, 1)),
        ((1, 4000), (1, 666)),
    ],
)
def test_images_are_shrunk_by_a_whole_factor_and_copied(shape, expected):
    image = np.zeros((*shape, 3), np.uint8)
    small = shrink(image)
    assert small.shape == (*expected, 3)
    assert not np.shares_memory(small, image)


def test_metrics_are_what_prometheus_reads(camera):
    camera.health.watch([troubled("twice", 2, "full"), troubled("twice", 0, None)])
    camera.change()
    camera.change(SourceState.RECONNECTING)
    camera.change()
    for _ in range(5):
        camera.answer(event=True)
    camera.number += 10
    camera.answer()
    totals = {"frames_answered": 6, "frames_skipped": 10, "events": 5, "reconnects": 1}
    assert {name: metric(camera, f"edgekit_{name}_total") for name in totals} == totals
    assert metric(camera, "edgekit_latency_seconds", stage="invoke") == pytest.approx(0.02)
    assert metric(camera, "edgekit_frame_age_seconds", quantile="0.99") == pytest.approx(0.025)
    assert [metric(camera, "edgekit_source_state", state=state.value) for state in SourceState] == [1, 0, 0, 0]
    assert metric(camera, "edgekit_sink_dropped_total", sink="twice") == 2
    assert metric(camera, "edgekit_sink_problem", sink="twice") == 1
    assert metric(camera, "edgekit_resident_memory_bytes") > 1e6
    assert camera.get("/metrics")[1]["Content-Type"].startswith("text/plain; version=0.0.4")
    assert b"# EOF" in camera.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")[2]


def test_metrics_pass_the_rules_of_promtool(camera):
    """The rules of ``promtool check metrics`` (prometheus/client_golang/prometheus/testutil/promlint)."""
    camera.health.watch([troubled("mqtt", 2, "full")])
    camera.change()
    camera.answer(event=True)
    text = camera.get("/metrics")[2].decode()
    families = list(text_string_to_metric_families(text))
    assert "edgekit_frame_age_seconds" in [family.name for family in families]
    assert text.count("# TYPE") == text.count("# HELP") == len(families)
    units = {"milliseconds", "ms", "minutes", "hours", "fahrenheit", "kilobytes", "kb", "mb", "percent", "pct", "sec"}
    for family in families:
        assert family.documentation
        assert not units & set(family.name.split("_"))
        assert family.type not in family.name.split("_")
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter")
            assert sample.name.islower()
            assert family.type == "summary" or "quantile" not in sample.labels
            assert "le" not in sample.labels


def test_health_is_200_only_while_fresh_answers_come(camera, monkeypatch):
    def answer():
        status, _, body = camera.get("/healthz")
        return status, json.loads(body).get("reason")

    assert answer() == (503, "no answer yet")
    camera.change()
    camera.answer()
    assert answer() == (200, None)
    camera.change(SourceState.STALLED, "secret: rtsp://user@host")
    assert answer() == (503, "the source is stalled")
    camera.change()
    later_s = time.perf_counter() + 14
    monkeypatch.setattr(edge_runtime.pipeline.health.time, "perf_counter", lambda: later_s)
    assert answer() == (503, "the last answer is 14 s old")


@pytest.mark.parametrize("options", [{"name": "Cam\u202eera", "labels": ("a\x1b[31m", "b\udcff")}], ids=["hostile"])
def test_figures_that_json_lacks_and_names_that_deceive_are_made_harmless(camera):
    nan = (Prediction(camera.labels[0], float("nan")), Prediction(camera.labels[1], float("inf")))
    camera.give(Classified("0\n", nan, LatencyMs(0.0, 0.0, 0.0)))
    state = json.loads(camera.get("/api/state")[2])
    assert state["name"] == "Cam\\u202eera"
    assert state["answer"]["top"] == [{"label": "a\\x1b[31m", "score": None}, {"label": "b\\udcff", "score": None}]
    assert b"nan" not in camera.get("/metrics")[2].lower()


@pytest.mark.parametrize("path", PATHS)
def test_head_gives_headers_at_once_and_writing_is_refused(camera, path):
    camera.run()
    wait_until(lambda: camera.get("/healthz")[0] == 200)
    status, headers, body = camera.get(path, "HEAD")
    assert (status, body) == (200, b"")
    assert "script-src 'self'" in headers["Content-Security-Policy"]
    assert "nosniff" in headers["X-Content-Type-Options"]
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        status, headers, _ = camera.get(path, method)
        assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_writing_costs_the_camera_next_to_nothing_whoever_watches(camera, stack):
    """A median, since other programs share this machine."""
    result = Classified("0", (Prediction("sad", 1.0),), LatencyMs(0, 0, 0), FrameStamp(0, 0.0, 0.0, 1.0))
    watchers = [stack.enter_context(camera.open_socket(EVENTS)) for _ in range(10)]
    assert all(peer.recv(4096) for peer in watchers)
    costs_s = []
    for _ in range(2000):
        start_s = time.perf_counter()
        camera.sink.write(result, GREY)
        costs_s.append(time.perf_counter() - start_s)
    assert float(np.median(costs_s)) < 100e-6


def test_closing_ends_streams_thread_files_and_port():
    threads, files = set(threading.enumerate()), count_open_files()
    camera = WebCamera()
    camera.run()
    before_peers = count_open_files()
    paths = (b"/events", b"/frame.jpg?after=1", b"/frame.jpg", b"/")
    requests = [b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path for path in paths]
    peers = [camera.open_socket(request) for request in (*requests, b"GET / HT")]
    assert peers[0].recv(4096)
    # Both ends of each connection are files of this process; one that is not accepted yet cannot be closed.
    wait_until(lambda: count_open_files() >= before_peers + 2 * len(peers))
    start_s = time.monotonic()
    camera.sink.close()
    camera.sink.close()
    assert time.monotonic() - start_s < 10
    camera.answer()
    camera.stop()
    for peer in peers:
        while peer.recv(1 << 16):
            pass
        peer.close()
    assert set(threading.enumerate()) - threads == set()
    wait_until(lambda: count_open_files() <= files)
    assert camera.sink.problem is None
    again = WebCamera(port=camera.port)
    assert again.port == camera.port
    again.sink.close()
