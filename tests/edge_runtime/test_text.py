"""Sizes in bytes as people write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.text import format_bytes, parse_bytes


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
