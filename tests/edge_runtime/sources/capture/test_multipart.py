"""Streams of JPEGs over HTTP: the same parts however they arrive, and no memory without a limit."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.sources.capture.http_camera import MAX_PART_BYTES, MultipartError, MultipartParser, boundary_of


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [
        ("multipart/x-mixed-replace; boundary=frame", b"--frame"),
        ('multipart/x-mixed-replace;boundary="a b"', b"--a b"),
        ("multipart/x-mixed-replace; charset=x; Boundary=--frame", b"--frame"),
        ("multipart/x-mixed-replace", None),
        ("multipart/x-mixed-replace; boundary=--", None),
    ],
)
def test_the_boundary_is_read_however_cameras_write_it(header, delimiter):
    assert boundary_of(header) == delimiter


PARTS = st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=60)), max_size=6)


@given(parts=PARTS, cuts=st.lists(st.integers(0, 400), max_size=8), newline=st.sampled_from([b"\r\n", b"\n"]))
def test_parts_are_the_same_however_they_arrive(parts, cuts, newline):
    parts = [(sized, body.replace(b"-", b"").strip() or b"x") for sized, body in parts]
    stream = b"preamble" + newline
    for sized, body in parts:
        stream += b"--b" + newline + b"Content-Type: image/jpeg" + newline
        stream += (b"Content-Length: %d" % len(body) + newline if sized else b"") + newline + body + newline
        stream += b"--b" + newline + b"Content-Type: text/plain" + newline * 2 + b"alive" + newline
    stream += b"--b--" + newline
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    parser = MultipartParser(b"--b")
    found = [part for start, end in itertools.pairwise(edges) for part in parser.feed(stream[start:end])]
    assert found == [body for _, body in parts]


@settings(max_examples=200)
@given(
    st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"--b\r\n", b"\r\n\r\n", b"Content-Length: 5\r\n"])))
)
def test_any_bytes_are_survived(blocks):
    parser = MultipartParser(b"--b")
    for block in blocks:
        parser.feed(block)


@pytest.mark.parametrize(
    ("start", "then", "says"),
    [
        (b"--b\r\nContent-Length: 99999999999\r\n\r\n", b"", "announces an image of 99999999999 bytes"),
        (b"--b\r\nX: ", b"x", "a header of more than"),
        (b"--b\r\n\r\n", b"x", "a part of more than"),
        (b"", b"x", "no line b'--b' between its images"),
    ],
)
def test_a_part_without_end_is_refused_before_memory_is_full(start, then, says):
    parser = MultipartParser(b"--b")
    with pytest.raises(MultipartError, match=says):  # noqa: PT012
        parser.feed(start)
        for _ in range(2 + MAX_PART_BYTES // (1 << 20)):
            parser.feed(then * (1 << 20))
