"""The live page's server among peers that mean harm, or that just hang."""

import contextlib
import gc
import http.client
import socket
import time
from urllib.parse import quote

import numpy as np
import pytest

from edge_runtime.sinks.web import routes
from edge_runtime.sinks.web.server import FailedAttempts, is_local_host
from edge_runtime.sinks.web.state import resident_bytes
from support.waiting import wait_until
from support.web import TOKEN, WebCamera

NOISE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)


@contextlib.contextmanager
def running(token=None, name="Feeder"):
    """A run with large images: noise does not compress."""
    with contextlib.closing(WebCamera(name=name, token=token, image=NOISE)) as camera:
        camera.run()
        wait_until(lambda: camera.health.snapshot().answered)
        yield camera


@contextlib.contextmanager
def little_memory(limit_mb):
    gc.collect()
    before = resident_bytes()
    yield
    gc.collect()
    assert resident_bytes() - before < limit_mb * 1e6


@pytest.fixture
def camera(stack):
    return stack.enter_context(running())


@pytest.fixture
def locked(stack):
    return stack.enter_context(running(TOKEN))


def streams(camera, **headers):
    return float(camera.get("/metrics", **headers)[2].decode().rpartition("edgekit_web_streams ")[2])


def send_slowly(peer, parts, pause_s):
    for part in parts:
        peer.sendall(part)
        time.sleep(pause_s)


@pytest.mark.parametrize(
    "path",
    [
        *("/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd"),
        *("/app.js/../../../../etc/passwd", "/app.js%00.html", "/server.py", "/page.html"),
        *("/style.css/", "/./app.js/x"),
        *("/api/../../__init__.py", "/frame.jpg/..%5c..%5cetc", "/ÿ", "/%ff%fe", "/events/x", "/static/", "/%", "/%zz"),
    ],
)
def test_there_is_no_way_to_a_file(camera, path):
    answer = camera.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer[9:12] in (b"404", b"400")
    assert b"root:" not in answer
    assert b"import" not in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 20_000 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a" * 100_000 + b": 1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n" * 1000 + b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
)
def test_oversized_and_broken_requests_are_refused_in_silence(camera, request_bytes, caplog, capfd):
    with little_memory(20):
        answer = camera.raw(request_bytes)
    assert answer == b"" or answer[9:12] in (b"400", b"414", b"421", b"431")
    assert camera.status("/healthz") == 200
    assert (caplog.text, capfd.readouterr().err) == ("", "")


def test_headers_and_bodies_without_end_are_cut_off(camera, stack):
    stack.enter_context(little_memory(20))
    lines = [b"X-%d: " % number + b"a" * 4000 + b"\r\n" for number in range(2000)]
    for start in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n"):
        with camera.open_socket() as peer, pytest.raises(ConnectionError):
            send_slowly(peer, [start, *lines], 0.001)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_another_name_for_this_machine_is_refused(camera, host):
    """A web site may point its own name here and read what the browser then takes for its own (DNS rebinding)."""
    assert {camera.status(path, Host=host) for path in ("/", "/api/state", "/frame.jpg", "/healthz")} == {421}
    assert camera.status(Host=f"localhost:{camera.port}") == 200


def test_local_hosts():
    local = ("localhost", "LOCALHOST:80", "127.0.0.1", "127.8.8.8:1", "[::1]", "[::1]:8080")
    assert [is_local_host(host) for host in local] == [True] * len(local)
    others = ("", ":80", "10.0.0.1", "[::1", "localhost@evil", "evil#localhost", "evil/localhost", "[fe80::1]", "127.1")
    assert [host for host in others if is_local_host(host)] == []


def test_other_sites_may_link_here_and_no_more(camera):
    assert camera.status("/events", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors") == 403
    assert camera.status("/frame.jpg", Sec_Fetch_Site="same-site", Sec_Fetch_Mode="cors") == 403
    assert camera.status("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate") == 200


def test_without_the_token_there_is_only_health(locked):
    wait_until(lambda: locked.status("/healthz") == 200)
    secret = ("/", "/events", "/frame.jpg", "/api/state", "/metrics", "/nothing")
    assert {locked.status(path) for path in secret} == {401}
    assert {locked.status(path, Authorization=f"Bearer {TOKEN}") for path in secret[2:5]} == {200}
    assert locked.status(f"/metrics?token={TOKEN}") == 200
    assert b"sad" not in locked.raw(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")


def test_the_token_in_the_address_becomes_a_cookie(locked):
    peer = http.client.HTTPConnection("localhost", locked.port, timeout=30)
    peer.request("GET", f"/?token={TOKEN}")
    moved = peer.getresponse()
    assert (moved.status, moved.headers["Location"], moved.read()) == (303, "./", b"")
    cookie = moved.headers["Set-Cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    peer.request("GET", "/", headers={"Cookie": cookie.partition(";")[0]})
    page = peer.getresponse()
    assert page.status == 200
    assert b"app.js" in page.read()
    peer.close()


@pytest.mark.parametrize("wrong", ["", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udcff\udcfe", "x" * 4000])
def test_a_wrong_token_is_refused(locked, wrong):
    assert locked.status("/metrics", Authorization=f"Bearer {wrong}") == 401
    assert locked.status(f"/?token={quote(wrong, errors='surrogateescape')[:3900]}") == 401
    assert locked.status(Cookie=f"edgekit_{locked.port}={TOKEN}") == 401, "the token itself is no cookie"


def test_guessing_is_slowed_down_for_the_guesser_only(locked):
    codes = [locked.status("/metrics", Authorization=f"Bearer {number}") for number in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert locked.status("/metrics", Authorization=f"Bearer {TOKEN}") == 200, "the right token always passes"
    request = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    assert locked.raw(request.encode(), source_address=("127.0.0.2", 0))[9:12] == b"200"


def test_failed_attempts_expire_and_are_bounded():
    now_s = 100.0
    attempts = FailedAttempts(lambda: now_s)
    for number in range(5000):
        attempts.add(str(number))
    assert len(attempts) <= 1024
    for _ in range(10):
        attempts.add("one")
    assert attempts.too_many("one")
    now_s += 61
    assert not attempts.too_many("one")


def test_a_hundred_idle_clients_hold_up_nobody_and_are_hung_up_on(camera, monkeypatch):
    peers = [camera.open_socket() for _ in range(100)]
    for number, peer in enumerate(peers):
        peer.sendall(b"GET / HTTP/1.1\r\nHost:"[: number % 20])
    assert [camera.status(path) for path in ("/", "/healthz", "/metrics", "/frame.jpg")] == [200] * 4
    assert camera.slowest_s < 0.05, "CPU seconds of one write"
    monkeypatch.setattr(routes, "IDLE_TIMEOUT_S", 0.5)
    for peer in peers:
        with peer, contextlib.suppress(ConnectionError):  # which is hung up on as well
            assert peer.recv(100) == b""


def test_a_client_that_sends_a_byte_at_a_time_is_hung_up_on(camera, monkeypatch):
    monkeypatch.setattr(routes, "IDLE_TIMEOUT_S", 1.0)
    with camera.open_socket() as peer, pytest.raises(ConnectionError):
        send_slowly(peer, [b"GET / HTTP/1.1\r\nX: ", *[b"a"] * 600], 0.05)


def test_there_are_no_more_connections_than_allowed(camera, monkeypatch):
    monkeypatch.setattr(routes, "MAX_CONNECTIONS", 8)
    peers = [camera.open_socket(b"GET / HTTP/1.1\r\nX: "[:number]) for number in range(20)]
    # The oldest make room, so that slow clients keep no health check away.
    assert [camera.status("/healthz") for _ in range(3)] == [200] * 3
    wait_until(lambda: sum(is_open(peer) for peer in peers) <= 8)
    assert is_open(peers[-1])
    for peer in peers:
        peer.close()


def test_open_streams_make_no_room(camera, monkeypatch):
    monkeypatch.setattr(routes, "MAX_CONNECTIONS", 4)
    peers = [camera.open_socket(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(4)]
    for peer in peers:
        assert peer.recv(12) == b"HTTP/1.1 200"
    with pytest.raises((ConnectionError, ValueError)):
        camera.status("/healthz")
    assert all(is_open(peer) for peer in peers)
    for peer in peers:
        peer.close()

    def answered():
        with contextlib.suppress(ConnectionError, ValueError):
            return camera.status("/healthz") == 200

    wait_until(answered)


def is_open(peer):
    peer.setblocking(False)
    try:
        while part := peer.recv(1 << 16):
            assert part
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    return False


def test_a_page_of_a_named_origin_may_show_this_one_in_a_frame():
    origin = "http://homeassistant.local:8123"
    with contextlib.closing(WebCamera(token=TOKEN, frame_ancestors=(origin,))) as camera:
        status, headers, body = camera.get(f"/?token={TOKEN}")  # no cookie is kept there, so nothing moves
        assert (status, b"app.js" in body) == (200, True)
        assert headers["Content-Security-Policy"].endswith(f"; frame-ancestors {origin}")
        assert "SameSite=Strict" in headers["Set-Cookie"]
        assert TOKEN not in headers["Set-Cookie"]
        assert camera.status(f"/api/state?token={TOKEN}") == 200
        assert camera.get("/?token=wrong")[0] == 401


def test_watchers_are_counted_and_a_place_is_free_again(camera):
    peers = [camera.open_socket() for _ in range(routes.MAX_STREAMS)]
    for peer in peers:
        peer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"200 OK" in peer.recv(4096)
    assert [camera.status(path) for path in ("/events", "/frame.jpg")] == [503, 503]
    assert camera.status("/api/state") == 200
    for peer in peers:
        peer.close()
    wait_until(lambda: streams(camera) == 0)
    assert camera.status("/frame.jpg") == 200


def test_a_client_that_never_reads_is_dropped_and_costs_little(monkeypatch, stack):
    monkeypatch.setattr(routes, "WRITE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(routes, "IDLE_TIMEOUT_S", 1.0)
    long_name = "x" * 200_000  # so that buffers are full within seconds
    with running(name=long_name) as camera, little_memory(30):
        for number in range(8):
            peer = stack.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.connect(("127.0.0.1", camera.port))
            path = b"/frame.jpg" if number % 2 else b"/events"
            peer.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % path * (20 if number % 2 else 1))
        wait_until(lambda: streams(camera) > 0)
        wait_until(lambda: streams(camera) == 0)
        assert camera.status("/frame.jpg") == 200
        assert camera.slowest_s < 0.05, "CPU seconds of one write"
