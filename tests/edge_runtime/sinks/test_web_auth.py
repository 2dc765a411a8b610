"""Where the page listens, and the token that opens it."""

import importlib.util
import ipaddress
import socket
from unittest import mock
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import MissingExtraError, OutputError, UsageError
from edge_runtime.pipeline.health import Health
from edge_runtime.sinks.web.auth import (
    TOKEN_VARIABLE,
    WebAddress,
    choose_token,
    parse_frame_ancestors,
    parse_web_address,
    sign_in_url,
)
from edge_runtime.sinks.web.sink import WebSink

LOCAL, OPEN = WebAddress("127.0.0.1", 8080), WebAddress("0.0.0.0", 8080)  # noqa: S104
SECRET = "a-secret-of-twenty-letters"  # noqa: S105


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("8080", "127.0.0.1", 8080, True),
        ("0", "127.0.0.1", 0, True),
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.9.9.9:1", "127.9.9.9", 1, True),
        ("localhost:8080", "localhost", 8080, True),
        ("[::1]:8080", "::1", 8080, True),
        ("0.0.0.0:8080", "0.0.0.0", 8080, False),  # noqa: S104
        ("[::]:8080", "::", 8080, False),
        ("192.168.1.20:65535", "192.168.1.20", 65535, False),
        ("Feeder.local:80", "feeder.local", 80, False),
        ("3d-printer:80", "3d-printer", 80, False),
        ("[0:0::1]:80", "::1", 80, True),
    ],
)
def test_an_address_is_understood(text, host, port, is_loopback):
    address = parse_web_address(text)
    assert (address.host, address.port, address.is_loopback) == (host, port, is_loopback)


@pytest.mark.parametrize(
    "text",
    [
        *("", ":", ":8080", "65536", "-1", "8080 ", "٨٠٨٠", "1_0", "000000080", "host", "host:", "host:http"),
        *("::1", "::1:8080", "[::1]", "[::1%lo]:80", "[127.0.0.1]:80", "256.1.1.1:80", "1.2.3:80", "a.1:80"),
        *("a b:80", "-a:80", "a..b:80", "http://a:80", "a/b:8", "user@host:80", "a\n:80", "localhost\n:80"),
        "x" * 300 + ":80",
    ],
)
def test_anything_else_is_refused_in_one_sentence(text):
    with pytest.raises(UsageError, match=r"^--web .*expected PORT or HOST:PORT") as refused:
        parse_web_address(text)
    assert "\n" not in str(refused.value)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_comes_back(host, port):
    address = WebAddress(str(host), port)
    if "%" not in address.host:
        assert parse_web_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["http://ha.local:8123", "https://*.example.org", "http://192.0.2.7:8123 https://ha.example.org", ""]
)
def test_origins_that_may_show_the_page(text):
    assert parse_frame_ancestors(text) == tuple(text.split())


@pytest.mark.parametrize(
    "text", ["*", "ha.local", "http://ha/path", "http://a; script-src *", "http://a:0", "http://a:99999", "ftp://a"]
)
def test_what_is_no_origin_is_refused(text):
    with pytest.raises(UsageError, match="expected an origin such as"):
        parse_frame_ancestors(text)


@given(st.text(max_size=40))
def test_any_text_is_an_address_that_means_itself_or_is_refused(text):
    try:
        address = parse_web_address(text)
    except UsageError:
        return
    assert 0 <= address.port <= 65535
    assert parse_web_address(str(address)) == address
    if address.is_loopback and address.host != "localhost":
        assert ipaddress.ip_address(address.host).is_loopback


def test_this_machine_alone_needs_no_token():
    assert choose_token(LOCAL, environment={}) is None
    assert sign_in_url("http://127.0.0.1:8080/", None) == "http://127.0.0.1:8080/"


def test_other_machines_need_one_that_is_made_up_and_shown_once():
    first, second = choose_token(OPEN, environment={}), choose_token(OPEN, environment={})
    assert first.text != second.text
    assert len(first.text) >= 32
    assert first.text not in repr(first)
    assert sign_in_url("http://pi:8080/", first) == f"http://pi:8080/?token={first.text}"


@pytest.mark.parametrize("address", [LOCAL, OPEN])
def test_a_given_token_counts_everywhere_and_is_never_shown(address, tmp_path):
    (tmp_path / "token").write_text(f"{SECRET}\n")
    for token in (
        choose_token(address, environment={TOKEN_VARIABLE: SECRET}),
        choose_token(address, tmp_path / "token", environment={TOKEN_VARIABLE: "another-secret-of-letters"}),
    ):
        assert token.text == SECRET
        assert SECRET not in sign_in_url("http://pi:8080/", token)


@pytest.mark.parametrize(
    "text", ["short", "x" * 257, "a token with blanks in it", "ein-schlüssel-mit-umlaut", "\x1b" * 20]
)
def test_a_poor_token_is_refused_and_not_repeated(text, tmp_path):
    (tmp_path / "token").write_bytes(text.encode())
    for arguments in ({"environment": {TOKEN_VARIABLE: text}}, {"token_file": tmp_path / "token", "environment": {}}):
        with pytest.raises(UsageError, match="expected a token of 16 to 256") as refused:
            choose_token(OPEN, **arguments)
        assert text not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "says"), [("none", "cannot be read"), ("", "cannot be read"), ("/dev/zero", "expected a token")]
)
def test_a_token_file_that_cannot_be_read_is_named_and_one_without_end_is_read_to_its_limit(tmp_path, name, says):
    with pytest.raises(UsageError, match=says):
        choose_token(OPEN, tmp_path / name, environment={})


def opened(address, token=None):
    return WebSink(address, name="Feeder", labels=("happy", "sad"), health=Health(), token=token)


def test_a_port_that_cannot_be_had_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = WebAddress("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(OutputError, match=rf"--web {address}: cannot listen there .*give another port$"):
            opened(address)
    with pytest.raises(OutputError, match=r"0\.0\.0\.0 for all of them"):
        opened(WebAddress("192.0.2.1", 0), SECRET)
    with pytest.raises(OutputError, match="cannot listen there"):
        opened(WebAddress("no-such-host.invalid", 0), SECRET)


def test_a_port_of_the_system_needs_its_owner(monkeypatch):
    monkeypatch.setattr(socket.socket, "bind", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(OutputError, match=r"--web 127\.0\.0\.1:80: .*Permission denied.* give a port of 1024 or more$"):
        opened(WebAddress("127.0.0.1", 80))


def test_no_page_is_open_to_others_without_a_token():
    with pytest.raises(UsageError, match="the page needs a token"):
        opened(OPEN)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"aiohttp.*edgekit\[web\]"):
        opened(LOCAL)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "::", "0.0.0.0"])  # noqa: S104
def test_the_url_leads_to_the_page(host):
    try:
        sink = opened(WebAddress(host, 0), SECRET)
    except OutputError as error:
        pytest.skip(f"no such address here: {error}")
    url = urlsplit(sink.url)
    assert url.hostname not in ("0.0.0.0", "::")  # noqa: S104
    with socket.create_connection((url.hostname, url.port), timeout=30) as peer:
        peer.sendall(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")
        assert peer.recv(100).startswith(b"HTTP/1.0 503")
    sink.close()
