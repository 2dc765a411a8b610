"""Records inside JPEG files."""

import json
import os

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract import look_alike_key, normalize_label
from edge_runtime.sinks.frame_folder import HEAD_BYTES, add_comment, read_comment
from edge_runtime.sinks.save_frames import FolderNames, folder_name, label_of

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)


@given(st.binary(max_size=200))
def test_any_bytes_have_a_note_or_none(data):
    assert read_comment(data) is None or isinstance(read_comment(data), dict)
    assert read_comment(b"\xff\xd8\xff\xfe" + data) is None or data


def test_a_note_is_found_again_behind_the_first_segment_and_long_ones_lose_their_runners_up():
    encoded, jpeg = cv2.imencode(".jpg", IMAGE)
    assert encoded
    record = {"label": "猫\udcff", "top": ["x" * 100] * 900}
    noted = add_comment(jpeg.tobytes(), record)
    assert noted[2:4] == b"\xff\xe0"
    assert read_comment(noted[:HEAD_BYTES]) == {"label": "猫\udcff"}
    with pytest.raises(ValueError, match="at most 65533"):
        add_comment(jpeg.tobytes(), {"label": "x" * 70_000})
    with pytest.raises(ValueError, match="JPEG"):
        add_comment(b"GIF89a", {})
    assert json.dumps(read_comment(add_comment(jpeg.tobytes(), {"a": 1}))) == '{"a": 1}'


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("cat", "cat"),
        ("猫 é", "猫 é"),
        ("..", "%2E%2E"),
        (".git", "%2Egit"),
        ("a/b", "a%2Fb"),
        ("100%", "100%25"),
        ("con", "%63on"),
        ("NUL.x", "%4EUL.x"),
        ("__MACOSX", "%5F_MACOSX"),
        (" x ", "%20x%20"),
        ("a\x1b\u202e\udcff", "a%1B%E2%80%AE%ED%B3%BF"),
    ],
)
def test_labels_stay_readable_where_they_are_safe(label, name):
    assert folder_name(label) == name
    assert label_of(name) == label


def test_labels_of_one_case_and_long_ones_are_told_apart():
    names = FolderNames(["Cardigan", "cardigan"])
    assert (names.of("Cardigan"), names.of("cardigan")) == ("Cardigan", "%63ardigan")
    assert folder_name("x" * 250) != folder_name("x" * 251)
    assert names.of("new") == "new"


@given(st.text(max_size=300).filter(bool))
def test_any_label_is_a_safe_folder_that_reads_back(label):
    name = folder_name(label)
    assert name not in (".", "..")
    assert "/" not in name
    assert "\0" not in name
    assert len(os.fsencode(name)) <= 200
    assert name == name.strip()
    assert name[0] != "."
    assert normalize_label(name) == name
    if "~" not in name:
        assert label_of(name) == normalize_label(label)


@given(st.lists(st.text(alphabet="aAé\u0301e./%\u200d", min_size=1, max_size=4), max_size=12))
def test_labels_that_differ_have_folders_that_do_not_look_alike(labels):
    names = FolderNames(labels)
    folders = {normalize_label(label): names.of(label) for label in labels}
    assert len({look_alike_key(folder) for folder in folders.values()}) == len(folders)
    assert all(label_of(folder) == label for label, folder in folders.items())
