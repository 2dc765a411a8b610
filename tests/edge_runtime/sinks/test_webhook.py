"""The webhook against a web server: what is posted, what is tried again, and servers that mean no good."""

import functools
import hashlib
import hmac
import ssl
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.results import Failed, SourceState, StateChange
from edge_runtime.sinks.webhook import WebhookSink, parse_webhook_url
from support.http import certificate, free_port
from support.results import decided
from support.waiting import wait_until

answer = functools.partial(decided, number=None)


def problem_of(sink, part="", **options):
    """Write an event, and return the problem that it brings."""
    sink.write(answer(event=True, **options))
    return wait_until(lambda: part in (sink.problem or "") and sink.problem, "the problem")


@pytest.fixture
def open_sink(stack):
    def make(url, *, environment=None, **options):
        quick = {"name": "door", "retry_after_s": 0.05, "environment": environment or {}, **options}
        return stack.enter_context(WebhookSink.open(url, **quick))

    return make


def test_events_and_states_are_posted_and_ordinary_answers_are_not(receiver, open_sink):
    sink = open_sink(receiver.url)
    sink.write(answer())
    sink.write(StateChange("cam", SourceState.STALLED, 1.0))
    sink.write(answer("dog", event=True), np.zeros((4, 4, 3), np.uint8))
    wait_until(lambda: len(receiver.requests) == 2, "two requests")
    sink.close()
    path, headers, _ = receiver.requests[1]
    state, body = receiver.bodies()
    assert state["state"] == "stalled"
    assert path == "/api/webhook/t0ken?key=s3cret"
    assert headers["Content-Type"] == "application/json"
    assert "X-Edgekit-Signature" not in headers
    assert body["name"] == "door"
    assert body["decision"] == {"label": "dog", "score": 0.9, "event": True}
    assert abs(body["sent_at"] - time.time()) < 3600
    assert (sink.dropped, sink.problem, sink.name) == (0, None, "webhook")


def test_all_changes_are_states_events_and_ends_of_decisions(receiver, open_sink):
    sink = open_sink(receiver.url, all_changes=True)
    for result in (
        StateChange("cam", SourceState.CONNECTED, 1.0),
        answer("cat", event=True),
        answer("cat"),
        answer(None),
        answer(None),
        Failed("cam", "ImageError", "is broken"),
        StateChange("cam", SourceState.ENDED, 2.0),
    ):
        sink.write(result)
    wait_until(lambda: len(receiver.requests) == 4, "four requests")
    sink.close()
    states = [body.get("state") or body["decision"]["label"] for body in receiver.bodies()]
    assert states == ["connected", "cat", None, "ended"]


def test_the_body_is_signed_with_the_secret_of_the_environment(receiver, open_sink):
    sink = open_sink(receiver.url, environment={"EDGEKIT_WEBHOOK_SECRET": "sésame"})
    sink.write(answer(event=True))
    wait_until(lambda: receiver.requests, "the request")
    ((_, headers, body),) = receiver.requests
    expected = hmac.new("sésame".encode(), body, hashlib.sha256).hexdigest()
    assert headers["X-Edgekit-Signature"] == f"sha256={expected}"


def test_a_busy_server_is_asked_once_more_with_the_same_delivery(receiver, open_sink):
    receiver.statuses = [503, 200]
    sink = open_sink(receiver.url)
    sink.write(answer(event=True))
    wait_until(lambda: len(receiver.requests) == 2, "the second attempt")
    sink.close()
    first, second = (headers["X-Edgekit-Delivery"] for _, headers, _ in receiver.requests)
    assert first == second
    assert (sink.dropped, sink.problem) == (0, None)


def test_a_server_that_stays_busy_is_a_problem_until_it_answers(receiver, open_sink):
    receiver.statuses = [500]
    sink = open_sink(receiver.url)
    assert problem_of(sink) == f"http://127.0.0.1:{receiver.server_address[1]}: the server answered 500"
    assert sink.dropped == 1
    assert len(receiver.requests) == 2
    receiver.statuses = [204]
    sink.write(answer(event=True))
    wait_until(lambda: sink.problem is None, "no problem")


@pytest.mark.parametrize(("status", "word"), [(404, "answered 404"), (307, "redirects"), (301, "redirects")])
def test_what_will_not_pass_is_not_tried_again_nor_a_redirect_followed(receiver, open_sink, status, word):
    receiver.statuses = [status]
    problem = problem_of(open_sink(receiver.url))
    assert word in problem
    assert "t0ken" not in problem
    assert "s3cret" not in problem
    assert len(receiver.requests) == 1


def test_a_server_that_never_answers_stops_nothing(receiver, open_sink):
    receiver.hangs.clear()
    sink = open_sink(receiver.url, timeout_s=0.3)
    began_s = time.monotonic()
    for _ in range(1000):
        sink.write(answer(event=True))
    assert time.monotonic() - began_s < 60.0  # a wait for each would take ten minutes
    wait_until(lambda: "no answer within 0.3 s" in (sink.problem or ""), "the problem")
    assert sink.dropped > 900
    receiver.hangs.set()
    wait_until(lambda: sink.problem is None, "no problem")


def test_a_server_that_sends_a_byte_now_and_then_is_cut_off(receiver, open_sink):
    receiver.raw = b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 10_000
    receiver.drip_s = 0.05
    problem_of(open_sink(receiver.url, timeout_s=0.5), "no answer within 0.5 s")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x00\xff" * 1000, b"HTTP/1.1 2000 huge\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n"],
)
def test_an_answer_that_is_not_http_is_a_problem(receiver, open_sink, raw):
    receiver.raw = raw
    sink = open_sink(receiver.url)
    assert problem_of(sink)
    assert sink.dropped == 1


def test_an_endless_answer_is_not_read(receiver, open_sink):
    receiver.raw = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 100_000
    sink = open_sink(receiver.url)
    sink.write(answer(event=True))
    wait_until(lambda: receiver.requests, "the request")
    sink.close()
    assert (sink.dropped, sink.problem) == (0, None)


def test_nobody_there_and_a_score_that_is_no_number_are_problems(receiver, open_sink):
    problem_of(open_sink(f"http://127.0.0.1:{free_port()}/"), "refuses connections")
    problem_of(open_sink(receiver.url), "JSON", score=float("nan"))


def test_a_certificate_that_nobody_vouches_for_is_refused(receiver, open_sink, tmp_path):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(tmp_path))
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    receiver.handle_error = lambda *_: None
    sink = open_sink(receiver.url.replace("http://127.0.0.1", "https://localhost"))
    problem_of(sink, "certificate is not accepted")
    assert not receiver.requests


def test_user_and_password_of_the_address_become_a_header_and_are_not_shown(receiver, open_sink):
    receiver.statuses = [401]
    problem = problem_of(open_sink(receiver.url.replace("http://", "http://bob:pa%40ss@")))
    assert receiver.requests[0][1]["Authorization"] == "Basic Ym9iOnBhQHNz"
    assert "pa" not in problem.replace("path", "")


@pytest.mark.parametrize(
    "url",
    ["", "example.org", "file:///etc/passwd", "ftp://x/", "http://", "http://x:0/", "http://x:99999/", "http://a b/"],
)
def test_what_is_no_web_address_is_refused(url):
    with pytest.raises(UsageError, match="expected one such as"):
        parse_webhook_url(url)


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"https://bob:S3CRET@h/{text}"))
def test_any_text_is_a_web_address_or_a_usage_error(url):
    try:
        target = parse_webhook_url(url)
    except UsageError:
        return
    assert target.host.isascii()
    assert target.path.isascii()
    assert target.path.isprintable()
    assert " " not in target.path
    assert "S3CRET" not in repr(target)
