"""Sizes in bytes as people write them."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.text import csv_plain, csv_text, escape_lines, format_bytes, hide_secrets, parse_bytes


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("1000", 1000),
        ("500MB", 500_000_000),
        ("500m", 500_000_000),
        ("1.5 GB", 1_500_000_000),
        ("64KiB", 65_536),
        (" 2tib ", 2 * 1024**4),
        ("1.0005kB", 1000),
        ("0.1GiB", 107_374_182),
        ("999999999999999999", 999_999_999_999_999_999),
    ],
)
def test_sizes_are_read(text, count):
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text",
    ["", "MB", "-1", "+1", "1e9", "1,5GB", "1.GB", ".5GB", "12 parsecs", "1MBB", "٣MB", "1\n", "9" * 5000, "inf"],
)
def test_what_is_no_size_is_one_short_sentence(text):
    with pytest.raises(ValueError, match="expected a size such as 500MB") as error:
        parse_bytes(text)
    assert len(str(error.value)) < 130


@given(st.integers(0, 10**18 - 1), st.sampled_from(["", "B", "kB", "MB", "GB", "TB", "KiB", "MiB", "GiB", "TiB"]))
def test_whole_numbers_of_any_unit_are_exact(number, unit):
    base, power = (1024 if "i" in unit else 1000), " kmgt".index(unit[:1].lower() if unit not in ("", "B") else " ")
    assert parse_bytes(f"{number}{unit}") == number * base**power
    assert parse_bytes(f"{number} {unit.lower()}") == number * base**power


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert parse_bytes(text) >= 0


@given(st.integers(0, 10**17))
def test_a_written_size_reads_back_nearly(count):
    assert abs(parse_bytes(format_bytes(count)) - count) <= 0.06 * count


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9949, "9.9 kB"), (999_600, "1.0 MB")]
)
def test_sizes_are_written(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:se:cret@cam/1", "rtsp://me:***@cam/1"),
        ("rtsp://me:X@X/X?X#X@cam/1", "rtsp://me:***@cam/1"),
        ("http://X@cam/1", "http://***@cam/1"),
        ("mqtt://me@broker", "mqtt://me@broker"),
        ("mqtts://me:X@broker/up", "mqtts://me:***@broker/up"),
        ("http://cam/s?loginuse=admin&loginpas=X&res=1", "http://cam/s?loginuse=admin&loginpas=***&res=1"),
        *(
            (f"http://cam/s?{name}=X&size=2", f"http://cam/s?{name}=***&size=2")
            for name in ("pas", "psw", "pwd", "PASS")
        ),
        *(
            (f"http://cam/s?{name}=X", f"http://cam/s?{name}=***")
            for name in ("-pwd", "userpw", "api_key", "pin", "sid")
        ),
        ("http://cam/s?pwd=X#X/X&n=1", "http://cam/s?pwd=***&n=1"),
        ("http://cam/s?auth_token=X;Password=X&n=1", "http://cam/s?auth_token=***;Password=***&n=1"),
        (
            "rtsp://cam/user=admin_password=X_X_channel=1_stream=0.sdp",
            "rtsp://cam/user=admin_password=***_channel=1_stream=0.sdp",
        ),
        ("rtsp://cam/user%3Dadmin%26password%3DX%26n%3D1", "rtsp://cam/user%3Dadmin%26password%3D***%26n%3D1"),
        ("rtsp://cam/password/X", "rtsp://cam/password/***"),
        (
            "no answer from http://me:X@cam/1 (http://me:X@cam/2)",
            "no answer from http://me:***@cam/1 (http://me:***@cam/2)",
        ),
        ("http://cam/s?mail=a@b.org&pinned=1&compression=3", "http://cam/s?mail=a@b.org&pinned=1&compression=3"),
        ("photos/key=3/pass.jpg: is no image", "photos/key=3/pass.jpg: is no image"),
    ],
)
def test_secrets_of_addresses_are_hidden(address, shown):
    assert hide_secrets(address) == shown


@pytest.mark.parametrize("text", ["a" * 50_000, "key=" + "_" * 50_000, "pass" * 12_000, "_a" * 25_000, "://" * 15_000])
def test_hiding_takes_no_time(text):
    started_s = time.perf_counter()
    hide_secrets(f"http://{text}@{text}")
    assert time.perf_counter() - started_s < 5


@given(st.text(st.sampled_from("'=+-@＝ax\t1")))
def test_no_cell_runs_and_every_cell_comes_back(text):
    cell = csv_text(text)
    assert cell[:1] not in tuple("=+-@＝\t")
    assert csv_plain(cell) == text


def test_lines_stay_lines_and_nothing_else_is_sent_to_a_terminal():
    assert escape_lines("a\x1b[31m\nb\r\u202e\ud800") == "a\\x1b[31m\nb\\r\\u202e\\ud800"
