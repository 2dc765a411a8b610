"""Records inside JPEG files."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.sinks.saving.jpeg_note import HEAD_BYTES, note_of, with_note

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@given(st.binary(max_size=200))
def test_any_bytes_have_a_note_or_none(data: bytes) -> None:
    assert note_of(data) is None or isinstance(note_of(data), dict)
    assert note_of(b"\xff\xd8\xff\xfe" + data) is None or data


def test_a_note_is_found_again_behind_the_first_segment_and_long_ones_lose_their_runners_up() -> None:
    encoded, jpeg = cv2.imencode(".jpg", IMAGE)
    assert encoded
    record = {"label": "猫\udcff", "top": ["x" * 100] * 900}
    noted = with_note(jpeg.tobytes(), record)
    assert noted[2:4] == b"\xff\xe0"
    assert note_of(noted[:HEAD_BYTES]) == {"label": "猫\udcff"}
    with pytest.raises(ValueError, match="at most 65533"):
        with_note(jpeg.tobytes(), {"label": "x" * 70_000})
    with pytest.raises(ValueError, match="JPEG"):
        with_note(b"GIF89a", {})
    assert json.dumps(note_of(with_note(jpeg.tobytes(), {"a": 1}))) == '{"a": 1}'
