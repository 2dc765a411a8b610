"""URLs as a source, against a real server on loopback that drops, hangs, redirects and lies."""

import contextlib
import hashlib
import http.server
import io
import re
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_runtime.errors import DatasetError, OutputError
from edge_runtime.workstation.datasets.download import DownloadLimits, fetch, parse_address
from edge_runtime.workstation.datasets.resolve import resolve
from support.http import free_port
from support.progress import Bars

QUICK = DownloadLimits(timeout_s=5, attempts=3, backoff_s=0.01)


def zip_bytes(fill=b"x", size=300_000):
    """A zip of two classes of images, stored, so that its size is about ``2 * size``."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("cat/a.jpg", "dog/b.jpg"):
            archive.writestr(name, fill * size)
    return buffer.getvalue()


ZIP = zip_bytes()
DIGEST = hashlib.sha256(ZIP).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.act and server.act(self):
            return
        validators = {server.etag, server.last_modified} - {""}
        if {self.headers.get("If-None-Match"), self.headers.get("If-Modified-Since")} & validators:
            self.reply(304)
            return
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked and server.ranges and self.headers.get("If-Range") in validators else 0
        headers = {"ETag": server.etag, "Last-Modified": server.last_modified}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"
        if server.length:
            headers["Content-Length"] = str(len(server.content) - start)
        body = server.content[start:]
        body = body[: server.drops.pop(0)] if server.drops else body
        server.sent.append(len(body))
        self.reply(206 if start else 200, body, **headers)

    def reply(self, status, body=b"", **headers):
        """Answer with headers, named with ``_`` for ``-``, of which empty ones are left out."""
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
        return True

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Gives one file, and remembers the headers of each request and the body bytes of each answer."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/sets/pets.zip"
        self.content = ZIP
        self.etag, self.last_modified = '"v1"', ""
        self.ranges = self.length = True
        # For each next answer, after how many bytes of the body the connection is cut.
        self.drops = []
        # Answers a request in place of the ordinary answer, if it returns true.
        self.act = None
        self.requests = []
        self.sent = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_):
        """Say nothing of clients that go away, as they do here."""


@pytest.fixture
def server(cache, monkeypatch):  # noqa: ARG001
    monkeypatch.setenv("no_proxy", "*")
    with Server() as web:
        yield web
        web.shutdown()


def get(server, sha256=None, limits=QUICK):
    return fetch(parse_address(server.url), sha256=sha256, limits=limits).read_bytes()


def fails(server, message, sha256=None, limits=QUICK):
    with pytest.raises(DatasetError, match=message) as caught:
        get(server, sha256, limits)
    text = str(caught.value)
    assert text.startswith(server.url)
    assert "\n" not in text
    return text


def kept_files(cache, suffix):
    return list((cache / "downloads").glob(f"*{suffix}"))


def test_a_url_of_a_zip_is_a_set(server, cache):
    bars = Bars()
    dataset = resolve(f"{server.url}?token=secret#part", progress=bars)
    assert (dataset.name, dataset.labels, len(dataset.samples)) == ("pets", ("cat", "dog"), 2)
    assert list(bars.totals) == ["downloading", "checking the archive", "extracting"]
    assert bars.totals["downloading"] == bars.counts["downloading"] == len(ZIP)
    assert server.requests[0]["User-Agent"].startswith("edgekit/")
    kept = [path for path in (cache / "downloads").iterdir() if path.is_file()]
    assert not any("secret" in path.name or b"secret" in path.read_bytes() for path in kept)


def test_a_dropped_connection_goes_on_where_it_stopped(server, cache):
    server.drops = [100_000, 50_000]
    assert get(server) == ZIP
    assert [request.get("Range") for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]
    assert {request.get("If-Range") for request in server.requests[1:]} == {'"v1"'}
    assert server.sent == [100_000, 50_000, len(ZIP) - 150_000]
    assert kept_files(cache, ".part*") == []


def test_a_later_run_goes_on_where_the_first_gave_up(server):
    server.drops = [100_000, 0, 0]
    text = fails(server, r"ended after 100,000 of \d+,\d+ bytes")
    assert "100,000 bytes are kept, and the same command goes on from there" in text
    assert get(server, DIGEST) == ZIP
    assert server.requests[-1]["Range"] == "bytes=100000-"
    assert server.sent[-1] == len(ZIP) - 100_000


def test_last_modified_is_enough_to_go_on(server):
    server.etag, server.last_modified, server.drops = 'W/"weak"', "Wed, 21 Oct 2015 07:28:00 GMT", [1000]
    assert get(server) == ZIP
    assert server.requests[1]["If-Range"] == server.last_modified


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": ""}, {"etag": 'W/"weak"'}])
def test_a_server_that_cannot_go_on_starts_again(server, change):
    for name, value in change.items():
        setattr(server, name, value)
    server.drops = [100_000]
    assert get(server, DIGEST) == ZIP
    assert server.sent == [100_000, len(ZIP)]


def test_a_file_that_changed_between_attempts_is_fetched_anew(server):
    server.drops = [100_000, 0, 0]
    fails(server, "ended after 100,000")
    server.content, server.etag = zip_bytes(b"y"), '"v2"'
    assert get(server) == server.content
    assert server.requests[-1]["Range"] == "bytes=100000-"
    assert server.sent[-1] == len(server.content)


def test_a_range_that_does_not_fit_is_not_taken(server):
    server.drops = [100_000]
    lie = {"Content_Range": f"bytes 5-{len(ZIP) - 1}/{len(ZIP)}", "Content_Length": str(len(ZIP) - 5)}
    server.act = lambda request: "Range" in request.headers and request.reply(206, ZIP[5:], **lie)
    assert get(server, DIGEST) == ZIP


def test_a_part_that_the_server_no_longer_knows_is_thrown_away(server):
    server.drops = [100_000, 0, 0]
    fails(server, "ended after")
    server.act = lambda request: "Range" in request.headers and request.reply(416)
    assert get(server) == ZIP


def test_a_part_that_is_whole_needs_only_its_name(server, cache):
    get(server)
    (finished,) = kept_files(cache, ".zip")
    finished.rename(finished.with_suffix(".part"))
    Path(f"{finished}.json").rename(finished.with_suffix(".part.json"))
    assert get(server) == ZIP
    assert len(server.requests) == 1


def test_a_length_that_is_not_said_is_no_obstacle(server):
    server.length = False
    assert get(server) == ZIP


def test_a_finished_download_is_used_again(server):
    get(server)
    assert get(server, DIGEST) == ZIP
    assert len(server.requests) == 1  # not asked: the checksum says enough
    assert get(server) == ZIP
    assert server.requests[1]["If-None-Match"] == '"v1"'
    assert server.sent == [len(ZIP)]
    server.content, server.etag = zip_bytes(b"z"), '"v2"'
    assert get(server) == server.content


def test_a_finished_download_is_used_while_the_server_is_away(server):
    get(server)
    server.act = lambda request: request.send_error(503) is None
    assert get(server) == ZIP
    assert len(server.requests) == 1 + QUICK.attempts
    server.act = lambda request: request.send_error(404) is None
    fails(server, "the server answered 404")


def test_a_wrong_checksum_is_said_and_the_file_removed(server, cache):
    text = fails(server, rf"expected the SHA-256 {'0' * 64}, got {DIGEST}", sha256="0" * 64)
    assert "removed" in text
    assert kept_files(cache, ".zip*") == kept_files(cache, ".part*") == []


def test_a_download_that_cannot_be_unpacked_is_not_kept(server, cache):
    server.content = ZIP.replace(b"x" * 1000, b"y" * 1000, 1)
    with pytest.raises(DatasetError, match=rf"{server.url}: this zip is cut off or damaged \(Bad CRC"):
        resolve(server.url)
    assert kept_files(cache, ".zip*") == []


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"<!doctype html><p>Please log in", "a web page"),
        (ZIP[:1000], "a zip that is cut off or damaged"),
        (b"\x1f\x8b\x08", "another kind of file"),
        (b"", "another kind of file"),
    ],
)
def test_what_is_no_zip_is_said_and_not_kept(server, cache, content, found):
    server.content = content
    fails(server, f"expected a zip of class folders, got {found}; check the address")
    assert kept_files(cache, ".zip*") == kept_files(cache, ".part*") == []


@pytest.mark.parametrize(("status", "asked"), [(404, 1), (403, 1), (410, 1), (204, 1), (500, 3), (429, 3)])
def test_an_error_of_the_server_is_one_sentence(server, status, asked):
    server.act = lambda request: request.send_response(status, "No\x1b[31mway") or request.end_headers() or True
    text = fails(server, f"the server answered {status}")
    assert text.isprintable()
    assert len(server.requests) == asked


def test_an_error_that_passes_is_outlasted(server):
    answers = [503, 429]
    server.act = lambda request: bool(answers) and request.send_error(answers.pop()) is None
    assert get(server) == ZIP


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip", "data:,x", "/sets/pets.zip"])
def test_redirects_out_of_the_web_or_in_a_circle_are_refused(server, target):
    server.act = lambda request: request.reply(302, Location=target)
    fails(server, r"redirects \(302\) in a circle or to an address that is not http or https")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_also_when_going_on(server, status):
    server.act = lambda request: request.path == "/sets/pets.zip" and request.reply(status, Location="/else/where")
    server.drops = [1000]
    assert get(server, DIGEST) == ZIP
    assert server.requests[-1]["Range"] == "bytes=1000-"


def test_a_server_that_hangs_is_given_up(server):
    released = threading.Event()
    limits = DownloadLimits(timeout_s=0.2, attempts=2, backoff_s=0.01)
    started = time.monotonic()
    server.act = lambda request: request.reply(200, b"PK", Content_Length="1000") and released.wait(10)
    fails(server, r"sent nothing for 0\.2 s", limits=limits)
    server.act = lambda _request: released.wait(10)
    fails(server, r"no answer within 0\.2 s", limits=limits)
    assert time.monotonic() - started < 5
    released.set()


def test_a_server_that_crawls_is_given_up(server):
    def crawl(request):
        request.reply(200, Content_Length="1000")
        with contextlib.suppress(OSError):
            for _ in range(100):
                request.wfile.write(b"P")
                time.sleep(0.05)
        return True

    server.act = crawl
    fails(server, "less than 1 KiB a second", limits=DownloadLimits(timeout_s=0.3, attempts=1))


def test_a_file_that_is_too_large_is_refused_told_or_not(server, cache):
    limits = DownloadLimits(most_bytes=100_000)
    fails(server, "expected a file of at most 100,000 bytes, got more", limits=limits)
    assert len(server.requests) == 1
    server.length = False
    fails(server, "expected a file of at most 100,000 bytes, got more", limits=limits)
    assert kept_files(cache, ".part*") == []


@pytest.mark.parametrize(("length", "needed"), [(True, 1), (False, 0)], ids=["announced", "unknown length"])
def test_too_little_room_is_said_before_it_is_taken(server, cache, length, needed):
    server.length = length
    with pytest.raises(OutputError, match=f"needs {needed} MiB, and 0 MiB can be used; make room"):
        get(server, limits=DownloadLimits(disk_margin_bytes=1 << 60))
    assert kept_files(cache, ".part*") == []


def test_servers_that_cannot_be_talked_to_are_said_at_once(server):
    server.act = lambda request: request.wfile.write(b"220 mail.example.org ESMTP\r\n")
    fails(server, r"//127\.0\.0\.1.*: 220 mail")
    server.url = server.url.replace("http:", "https:")
    fails(server, r"//127\.0\.0\.1.*: no secure connection")
    server.url = f"http://127.0.0.1:{free_port()}/a.zip"
    fails(server, "refuses connections")
    server.url = "http://no-such-host.invalid/a.zip"
    fails(server, r"no-such-host\.invalid/a\.zip: the host cannot be found")


def test_a_cache_that_cannot_be_written_is_one_sentence(server, cache):
    cache.write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        get(server)


def test_two_processes_share_one_download(server):
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(get, [server] * 3, [DIGEST] * 3)) == [ZIP] * 3
    assert server.sent == [len(ZIP)]


@pytest.mark.parametrize(
    ("url", "requested", "name"),
    [
        ("HTTP://Example.org/My%20pets.ZIP?a=b c", "http://Example.org/My%20pets.ZIP?a=b%20c", "My pets"),
        ("https://example.org/ü/set.zip#x", "https://example.org/%C3%BC/set.zip", "set"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/", "bücher.example"),
        ("http://[::1]:8000/a/b/", "http://[::1]:8000/a/b/", "b"),
        ("http://example.org/.zip", "http://example.org/.zip", ".zip"),
    ],
)
def test_addresses_are_made_fit_for_a_request(url, requested, name):
    address = parse_address(url)
    assert (address.url, address.name) == (requested, name)
    assert "?" not in address.shown
