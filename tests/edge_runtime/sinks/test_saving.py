"""Frames as images: which, under which names, within which quota, and never anything else."""

import functools
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.contract import look_alike_key, normalize_label
from edge_runtime.errors import OutputError
from edge_runtime.preprocess import load_image
from edge_runtime.results import Decision, Failed, SourceState, StateChange
from edge_runtime.sinks.frame_folder import HEAD_BYTES, LOCK_FILE, FrameFolder, add_comment, read_comment
from edge_runtime.sinks.save_frames import (
    FolderNames,
    FrameChooser,
    SaveChoice,
    SaveFrames,
    folder_name,
    image_stem,
    label_of,
    open_save_frames,
)
from edge_runtime.workstation.datasets.folder import read_folder
from support.programs import killed_code
from support.results import classified

AT = 1700000000.25  # 2023-11-14 22:13:20.250 UTC
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
answer = functools.partial(classified, source="0", number=7, at=AT)


def event(label="cat", *, begins=True, score=0.9):
    return Decision(label, score, event=begins)


def sink(root, quota_bytes=10**9, **options):
    return SaveFrames(root, ["cat", "dog"], quota_bytes=quota_bytes, **{"min_free_bytes": 0, **options})


def save(root, *results, quota_bytes=10**9):
    with sink(root, quota_bytes) as saving:
        for result in results:
            saving.write(result, IMAGE)


def images(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))


def fill(root, numbers, quota_bytes=10**9):
    save(root, *(answer(number=number, at=AT + number) for number in numbers), quota_bytes=quota_bytes)


@pytest.fixture
def one_image_bytes(tmp_path):
    fill(tmp_path / "measure", range(1))
    return next((tmp_path / "measure").rglob("*.jpg")).stat().st_size


def test_a_image_has_its_label_time_and_frame_in_its_name_and_its_record_inside(tmp_path):
    saving = sink(tmp_path / "new" / "frames")
    saving.write(answer(decision=event()), IMAGE)
    saving.write(answer(), None)
    saving.write(Failed("0", "ImageError", "is broken"), IMAGE)
    saving.write(StateChange("0", SourceState.ENDED, AT), None)
    saving.close()
    saving.close()
    root = tmp_path / "new" / "frames"
    assert images(root) == ["cat/20231114T221320.250Z-000007.jpg"]
    path = root / images(root)[0]
    image_hwc_rgb_u8 = load_image(path)
    assert image_hwc_rgb_u8.shape == IMAGE.shape
    assert np.abs(image_hwc_rgb_u8.astype(int).mean((0, 1)) - IMAGE.mean((0, 1))).max() < 3
    note = read_comment(path.read_bytes()[:HEAD_BYTES])
    assert note is not None
    assert (note["folder"], note["label"], note["score"], note["frame"]) == ("cat", "cat", 0.9, 7)
    assert note["decision"]["event"]


def test_colours_are_not_swapped(tmp_path):
    with sink(tmp_path) as saving:
        saving.write(answer(), np.full((16, 16, 3), (250, 10, 10), np.uint8))
    assert load_image(tmp_path / images(tmp_path)[0])[8, 8, 0] > 200


@pytest.mark.parametrize(
    ("result", "folder"),
    [
        (answer(), "cat"),
        (answer(score=0.3), "unsure-cat"),
        (answer(rejected=True), "unsure-cat"),
        (answer(decision=event("dog")), "unsure-cat"),
        (answer(decision=event(None, score=0.2)), "unsure-cat"),
        (answer("../../etc"), "%2E.%2F..%2Fetc"),
        (answer("/"), "%2F"),
    ],
)
def test_only_a_sure_answer_goes_to_its_class(tmp_path, result, folder):
    save(tmp_path, result)
    assert [path.partition("/")[0] for path in images(tmp_path)] == [folder]


def test_the_tree_is_a_set_that_edge_train_takes(tmp_path):
    answers = [("cat", 0.9), ("dog", 0.9), ("cat", 0.2), ("a/b", 0.9), (".x", 0.9)]
    save(tmp_path, *(answer(*guess, number=number) for number, guess in enumerate(answers)))
    dataset = read_folder(tmp_path)
    assert set(dataset.labels) == {"cat", "dog", "unsure-cat", "a%2Fb", "%2Ex"}
    assert not dataset.ignored


def test_events_and_uncertain_frames_are_chosen_each_with_its_own_pause():
    chooser = FrameChooser([SaveChoice.EVENT, SaveChoice.UNCERTAIN], threshold=0.5, min_interval_s=2.0)

    def chosen(time_s, **options):
        # The pause is by the source's own time, whatever the clock of the machine says.
        one = answer(**options)
        return chooser(replace(one, frame=replace(one.frame, time_s=time_s)))

    assert not chosen(50.0)
    assert not chosen(50.0, decision=event(begins=False))
    assert not chosen(50.0, decision=event(None))
    assert not chooser(StateChange("0", SourceState.STALLED, AT))
    assert chosen(50.0, score=0.4)
    assert not chosen(51.0, score=0.4)
    assert chosen(51.0, decision=event())
    assert not chosen(52.0, decision=event())
    assert chosen(53.0, decision=event())
    assert chosen(53.0, rejected=True)
    assert chosen(1.0, decision=event()), "a video that starts again goes back in time"
    events = FrameChooser([SaveChoice.EVENT], threshold=0.5, min_interval_s=0.0)
    assert not events(answer(score=0.4))
    assert events(answer(decision=event()))
    assert events(answer(decision=event()))


def test_the_oldest_make_room_and_earlier_runs_count(tmp_path, one_image_bytes):
    root, quota_bytes = tmp_path / "frames", one_image_bytes * 5
    fill(root, range(4), quota_bytes)
    fill(root, range(4, 20), quota_bytes)
    names = images(root)
    assert [int(name[-10:-4]) for name in names] == list(range(20 - len(names), 20))
    assert 4 <= len(names) <= 5
    assert sum((root / name).stat().st_size for name in names) <= quota_bytes


def test_a_class_whose_last_image_went_leaves_no_empty_folder(tmp_path, one_image_bytes):
    results = [answer(label, number=number, at=AT + number) for number, label in enumerate(["cat", "dog", "dog"])]
    save(tmp_path / "frames", *results, quota_bytes=one_image_bytes * 2)
    assert not (tmp_path / "frames" / "cat").exists()


def test_what_is_not_ours_or_was_sorted_by_a_person_stays(tmp_path, one_image_bytes):
    root = tmp_path / "frames"
    fill(root, range(3))
    saved = images(root)
    (root / "sorted").mkdir()
    moved = (root / saved[0]).rename(root / "sorted" / Path(saved[0]).name)
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(moved.read_bytes())
    names = ("holiday.jpg", "20010101T000000.000Z-000000.jpg", "20231114T221321.jpg")
    foreign = [root / "cat" / name for name in names]
    for path in foreign:
        path.write_bytes(b"\xff\xd8 no note of ours")
    link = root / "cat" / "20010101T000001.000Z-000000.jpg"
    link.symlink_to(outside)
    (root / "linked").symlink_to(root / "cat")
    (root / "cat" / "20010101T000002.000Z-000000.jpg").mkdir()
    fill(root, range(10, 30), one_image_bytes * 2)
    for path in (moved, outside, link, *foreign):
        assert path.exists()
    assert not (root / saved[1]).exists()


def test_a_class_folder_that_leads_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "cat").symlink_to(tmp_path / "elsewhere")
    with sink(tmp_path / "frames") as saving:
        with pytest.raises(OSError, match=r"Not a directory|symbolic"):
            saving.write(answer(), IMAGE)
        saving.write(answer("dog"), IMAGE)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_nothing_is_overwritten_when_the_clock_jumps_back(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1.5)
    save(tmp_path, *[answer(at=None)] * 3)
    assert images(tmp_path) == [f"cat/19700101T000001.500Z-000007{more}.jpg" for more in ("-2", "-3", "")]


def test_a_clock_that_jumps_back_does_not_make_new_images_the_oldest(tmp_path, one_image_bytes):
    results = [answer(number=number, at=AT - 1000 * number) for number in range(6)]
    save(tmp_path / "frames", *results, quota_bytes=one_image_bytes * 3)
    assert {int(name[-10:-4]) for name in images(tmp_path / "frames")} >= {4, 5}


def test_disk_is_left_free_and_trouble_passes(tmp_path):
    free = iter([5000, 100, 5000, 100, 100, 100, 5000])
    folder = FrameFolder(tmp_path, quota_bytes=10**9, min_free_bytes=1000, free_bytes=lambda _handle: next(free))
    data = [add_comment(b"\xff\xd8", {"folder": "cat", "number": number}) for number in range(3)]
    stems = [image_stem(answer(number=number)) for number in range(3)]
    first, second = (folder.save("cat", stems[number], data[number]) for number in range(2))
    assert not first.exists()
    with pytest.raises(OSError, match=r"less than 1.0 kB of disk"):
        folder.save("dog", stems[2], data[2])
    assert not second.exists()
    assert not (tmp_path / "dog").exists()
    assert folder.save("dog", stems[2], data[2]).read_bytes() == data[2]
    folder.close()


def test_a_small_disk_holds_the_newest(small_disk):
    fill(small_disk, range(60))
    frames = [int(name[-10:-4]) for name in images(small_disk)]
    assert frames == list(range(60 - len(frames), 60))
    assert len(frames) > 5


def test_a_disk_that_others_fill_meanwhile_leaves_whole_images_only(small_disk):
    saving, failures = sink(small_disk, min_free_bytes=-(10**12)), 0  # so that no image is refused before it is written
    for number in range(60):
        try:
            saving.write(answer("cat" if number < 40 else "dog", number=number, at=AT + number), IMAGE)
        except OSError:
            failures += 1
    saving.close()
    saved = images(small_disk)
    assert failures
    assert len(saved) + failures == 60
    for name in saved:
        assert load_image(small_disk / name).shape == IMAGE.shape
    left = [path for path in small_disk.rglob("*") if path.is_file() and path.suffix != ".jpg"]
    assert [path.name for path in left] == [LOCK_FILE]
    assert not (small_disk / "dog").exists()


def test_a_second_program_is_refused_and_what_a_killed_one_left_is_removed(tmp_path):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from edge_runtime.sinks.save_frames import SaveFrames\n"
        "from support.results import classified\n"
        "saving = SaveFrames(Path(sys.argv[1]), ['cat', 'dog'], min_free_bytes=0)\n"
        "image = np.zeros((48, 64, 3), np.uint8)\n"
        "saving.write(classified(), image)\nprint('ready', flush=True)\n"
        "while True:\n    saving.write(classified(), image)\n"
    )
    with killed_code(code, tmp_path / "frames"), pytest.raises(OutputError, match="another edge-run is writing there"):
        sink(tmp_path / "frames")
    partial = tmp_path / "frames" / "cat" / ".20231114T221320.250Z-000007.jpg.partial"
    partial.write_bytes(b"half")
    ours = partial.with_name(".mine.jpg.partial")
    ours.write_bytes(b"a file of somebody")
    sink(tmp_path / "frames").close()
    assert not partial.exists()
    assert ours.exists()
    for name in images(tmp_path / "frames"):
        assert load_image(tmp_path / "frames" / name).shape == IMAGE.shape


def test_a_folder_that_is_taken_away_comes_back(tmp_path):
    root = tmp_path / "frames"
    saving = sink(root)
    root.rename(tmp_path / "old")
    with pytest.raises(FileNotFoundError):
        saving.write(answer(), IMAGE)
    root.mkdir()
    saving.write(answer(), IMAGE)
    saving.close()
    assert len(images(root)) == 1
    assert not images(tmp_path / "old")


def test_the_whole_sink_saves_in_the_background(tmp_path):
    limits = {"min_interval_s": 0.0, "quota_bytes": 10**7, "min_free_bytes": 0}
    saving = open_save_frames(tmp_path, ["cat", "dog"], choices=[SaveChoice.EVENT], **limits)
    lent = IMAGE.copy()
    saving.write(answer(decision=event()), lent)
    saving.write(answer(number=8), lent)
    lent[:] = 0
    saving.close()
    assert (saving.dropped, saving.problem) == (0, None)
    assert len(images(tmp_path)) == 1
    assert load_image(tmp_path / images(tmp_path)[0]).any()


def test_a_frame_that_cannot_be_encoded_and_names_that_lead_away_are_errors(tmp_path):
    with sink(tmp_path) as saving, pytest.raises(ValueError, match="cannot be encoded"):
        saving.write(answer(), np.zeros((0, 4, 3), np.uint8))
    folder = FrameFolder(tmp_path, quota_bytes=10, min_free_bytes=0)
    for name, stem in (("..", image_stem(answer())), ("a/b", image_stem(answer())), ("cat", "../x")):
        with pytest.raises(ValueError, match="expected names"):
            folder.save(name, stem, b"x")
    with pytest.raises(OSError, match="larger than the quota"):
        folder.save("cat", image_stem(answer()), b"x" * 11)
    folder.close()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="images cannot be saved there"):
        sink(tmp_path / "file")


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
