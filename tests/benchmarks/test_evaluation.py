"""Which images are measured on."""

import itertools
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import evaluation
from benchmarks.plan import BenchConfig
from benchmarks.settings import Settings
from edge_runtime.contract import InputSpec
from edge_runtime.errors import DatasetError, OutputError, UsageError
from edge_runtime.model.bundle import file_sha256
from edge_runtime.workstation.datasets.decode import decode_all
from edge_runtime.workstation.datasets.samples import SPLIT_FILE, Sample, Split, write_split_csv
from support.images import plain_image, write_image

LABELS = ("cat", "dog")
SPEC = InputSpec(8, 8)


def images(folder, count):
    paths = [write_image(folder / f"{number}.png", plain_image(10 * number, 8, 8)) for number in range(count)]
    return tuple(Sample(path, LABELS[number % 2], Split.TEST, file_sha256(path)) for number, path in enumerate(paths))


def prepare(samples, folder, **options):
    options = {"labels": LABELS, "spec": SPEC, "trained_on": None, **options}
    return evaluation.prepare_images(evaluation.Chosen("photos", "all", tuple(samples), 0), folder=folder, **options)


def config(data, keras=None, **choices):
    source = None if data is None else str(data)
    return BenchConfig(Path("bundle"), source, keras, Path("report"), False, "edge-bench run", Settings(**choices))


def test_images_keep_their_order_and_labels_when_some_are_left_out(tmp_path):
    missing, altered, broken, first, second = images(tmp_path, 5)
    missing.path.unlink()
    altered = replace(altered, sha256="0" * 64)
    broken.path.write_text("no image")
    found = prepare((missing, replace(broken, sha256=""), first, altered, second), tmp_path)
    assert [sample.path for sample in found.samples] == [first.path, second.path]
    assert found.truth == (1, 0)
    assert np.load(found.images)[:, 0, 0, 0].tolist() == [30, 40]
    reasons = {Path(item.file).name: item.reason for item in found.record.unreadable}
    for name, reason in (("0.png", "No such file"), ("1.png", "was altered"), ("2.png", "is not an image")):
        assert reason in reasons[name]
    assert (found.record.images, found.record.trained_on) == (2, None)
    assert found.paths_file.read_text(encoding="utf-8").splitlines() == [str(first.path), str(second.path)]
    assert found.unlisted == ()


def test_class_indices_become_the_models_labels(tmp_path):
    samples = tuple(replace(sample, label=str(LABELS.index(sample.label))) for sample in images(tmp_path, 3))
    found = prepare(samples, tmp_path)
    assert ([sample.label for sample in found.samples], found.truth) == (["cat", "dog", "cat"], (0, 1, 0))
    assert found.record.images_per_label == {"cat": 2, "dog": 1}
    too_high = (*samples, replace(samples[0], label="2"))
    with pytest.raises(
        DatasetError,
        match=r"photos: 4 of 4 images .* does not know: '0' \(2\), '1' \(1\), '2' \(1\); .* indices go from 0 to 1",
    ):
        prepare(too_high, tmp_path)


@pytest.mark.parametrize(
    ("labels", "known", "message"),
    [
        (["cat", "bird", "bird"], ("cat", "dog"), "2 of 3 images .*'bird' .2.; it knows 'cat', 'dog'; .*leave them"),
        (["Cats", "dogs"], ("cats", "dogs"), "1 of 2 images .*rename 'Cats' to 'cats'$"),
        (["red  panda ", "red_panda"], ("red panda", "x"), "'red  panda ' to 'red panda', 'red_panda' to 'red panda'$"),
        (["00", "01"], ("cat", "dog"), "class indices go from 0 to 1, without leading zeros"),
        (["a\n\x1b[31m"], ("cat", "dog"), r"'a\\n\\x1b\[31m' \(1\)"),
        ([f"{n:02}x" for n in range(40)], ("cat", "dog"), r"40 of 40 .*'04x' \(1\) and 35 more; it knows"),
        (["z" * 900], [f"label{n}" for n in range(999)], "z{40}.*'label4' and 994 more; rename"),
    ],
)
def test_labels_that_the_model_does_not_know_are_counted_with_a_remedy(labels, known, message):
    with pytest.raises(DatasetError, match=message) as caught:
        evaluation.check_labels_known("photos", [Sample(Path("a.png"), label) for label in labels], known)
    assert len(str(caught.value)) < 600
    assert str(caught.value).isprintable()
    evaluation.check_labels_known("photos", [Sample(Path("a.png"), known[0])], known)  # need not be all of them


def test_images_that_the_model_was_trained_on_are_counted(tmp_path):
    samples = images(tmp_path, 4)
    trained_on = frozenset(sample.sha256 for sample in samples[:3])
    assert prepare(samples, tmp_path, trained_on=trained_on).record.trained_on == 3


def test_images_none_of_which_can_be_read_are_refused_with_a_reason(tmp_path):
    samples = images(tmp_path, 2)
    for sample in samples:
        sample.path.unlink()
    with pytest.raises(DatasetError, match=r"not one of 2 images can be read .*0\.png"):
        prepare(samples, tmp_path)


@pytest.mark.parametrize(
    ("present", "wanted", "used"),
    [
        ((Split.TRAIN, Split.VALIDATION, Split.TEST), None, "test"),
        ((Split.TRAIN, Split.VALIDATION), None, "validation"),
        ((Split.TRAIN, Split.VALIDATION, Split.TEST), Split.TRAIN, "train"),
        ((None,), None, "all"),
    ],
)
def test_part_is_test_else_validation(present, wanted, used):
    samples = [Sample(Path(f"{split}.png"), "cat", split) for split in present]
    part, chosen = evaluation.choose_part("photos", samples, wanted)
    assert part == used
    assert [sample.split for sample in chosen] == ([None] if used == "all" else [Split(used)])


@pytest.mark.parametrize(("split", "wanted"), [(Split.TRAIN, None), (Split.TEST, Split.VALIDATION), (None, Split.TEST)])
def test_part_that_is_not_there_is_refused(split, wanted):
    with pytest.raises(UsageError, match="--split"):
        evaluation.choose_part("photos", [Sample(Path("a.png"), "cat", split)], wanted)


def test_limit_draws_from_the_whole_in_the_old_order():
    samples = tuple(Sample(Path(f"{number:03}.png"), "cat") for number in range(300))
    drawn = evaluation.limit_samples(samples, 30, 0)
    assert len(set(drawn)) == 30
    assert list(drawn) == sorted(drawn, key=lambda sample: sample.path)
    assert max(sample.path for sample in drawn) > Path("200.png")
    assert evaluation.limit_samples(samples, 30, 0) == drawn != evaluation.limit_samples(samples, 30, 1)
    assert evaluation.limit_samples(samples, 300, 0) == evaluation.limit_samples(samples, None, 0) == samples


def of_classes(*sizes):
    return tuple(Sample(Path(f"{n}-{k}.png"), f"class{n}") for n, size in enumerate(sizes) for k in range(size))


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ((100, 100), 50, (25, 25)),
        ((300, 100), 40, (30, 10)),
        ((970, 20, 10), 100, (97, 2, 1)),
        ((997, 2, 1), 10, (8, 1, 1)),  # a class of one image keeps it
        ((50, 50, 50), 3, (1, 1, 1)),
        ((90, 5, 5), 2, (2, 0, 0)),  # too few for one of each
    ],
)
def test_limit_keeps_the_proportions_of_the_classes(sizes, limit, expected):
    counts = Counter(sample.label for sample in evaluation.limit_samples(of_classes(*sizes), limit, 3))
    assert tuple(counts[f"class{index}"] for index in range(len(sizes))) == expected


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 100), st.integers(0, 5))
def test_limit_gives_larger_classes_no_fewer_places(sizes, limit, seed):
    samples = of_classes(*sizes)
    drawn = evaluation.limit_samples(samples, limit, seed)
    assert len(set(drawn)) == min(limit, len(samples))
    assert [sample for sample in samples if sample in set(drawn)] == list(drawn)
    counts = Counter(sample.label for sample in drawn)
    places = [counts[f"class{index}"] for index in range(len(sizes))]
    assert limit < len(sizes) or min(places) >= 1
    for (size, count), (other_size, other_count) in itertools.product(zip(sizes, places, strict=True), repeat=2):
        assert size < other_size or count >= other_count - (size == other_size)


def test_a_set_without_images_is_refused(tmp_path):
    write_split_csv(tmp_path / SPLIT_FILE, ())
    (tmp_path / "empty").mkdir()
    for places, error, says in (
        ((None, tmp_path), DatasetError, r"split\.csv of .* lists no images; give labelled images with --data"),
        ((tmp_path / "empty",), DatasetError, "expected at least two folders of images, one per class, got none"),
        ((None,), UsageError, "no images to measure on: give --data SRC"),
    ):
        with pytest.raises(error, match=says):
            evaluation.choose_images(config(*places))


def test_class_folders_named_by_index_are_taken(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"data/{number % 2}/{number}.png", plain_image(10 * number))
    chosen = evaluation.choose_images(config(tmp_path / "data", limit=2))
    found = evaluation.prepare_images(chosen, LABELS, SPEC, None, tmp_path)
    assert (found.record.part, found.record.images_per_label) == ("all", {"cat": 1, "dog": 1})


def test_names_with_line_breaks_are_measured_but_not_listed(tmp_path):
    samples = images(tmp_path, 5)
    names = ["plain.png", "two\nlines.png", "carriage\rreturn.png", "para\u2029graph.png", os.fsdecode(b"caf\xe9.png")]
    renamed = []
    for sample, name in zip(samples, names, strict=True):
        try:
            renamed.append(replace(sample, path=sample.path.rename(tmp_path / name)))
        except OSError as error:
            pytest.skip(f"this file system does not take such names ({error.strerror})")
    found = prepare(renamed, tmp_path)
    assert found.record.images == len(found.truth) == 5
    assert found.unlisted == tuple(sample.path for sample in renamed[1:4])
    text = found.paths_file.read_text(encoding="utf-8", errors="surrogateescape")
    assert text == f"{renamed[0].path}\n{renamed[4].path}\n"


def test_listed_paths_are_absolute_and_links_stay_links(tmp_path, monkeypatch):
    sample = images(tmp_path, 1)[0]
    blob = sample.path.rename(tmp_path / "blob-without-suffix")
    sample.path.symlink_to(blob)
    monkeypatch.chdir(tmp_path)
    found = prepare([replace(sample, path=Path(sample.path.name))], tmp_path)
    assert found.paths_file.read_text(encoding="utf-8") == f"{sample.path}\n"


@pytest.mark.parametrize("broken", [(), (0,), (3, 10), tuple(range(11))])
@pytest.mark.parametrize("per_chunk", [1, 4, 100])
def test_images_decoded_in_portions_are_as_if_decoded_at_once(tmp_path, monkeypatch, broken, per_chunk):
    paths = [sample.path for sample in images(tmp_path, 11)]
    for index in broken:
        paths[index].write_text("no image")
    monkeypatch.setattr("benchmarks.evaluation.CHUNK_BYTES", per_chunk * 8 * 8 * 3)
    seen = []
    kept, failures = evaluation.write_images(paths, SPEC, tmp_path / "images.npy", progress=seen.append)
    expected = decode_all(paths, SPEC)
    assert (kept, failures) == (expected.kept, expected.failures)
    np.testing.assert_array_equal(np.load(tmp_path / "images.npy"), expected.images_nhwc_rgb_u8)
    assert sum(seen) == 11


def test_a_full_disk_is_one_sentence_with_a_remedy(tmp_path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    paths = [sample.path for sample in images(tmp_path, 2)]
    with pytest.raises(OutputError, match=r"No space left on device\); 2 prepared images .* --limit, or .* TMPDIR"):
        evaluation.write_images(paths, SPEC, Path("/dev/full"))


@pytest.mark.parametrize("name", ["eval", "eval/y_labels.csv"])
def test_mlperf_tinys_evaluation_set_is_taken_as_it_lies(name, real_data, tmp_path):
    labels = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    chosen = evaluation.choose_images(config(real_data("mlperf_tiny_ic") / name))
    found = evaluation.prepare_images(chosen, labels, InputSpec(32, 32), None, tmp_path)
    assert (found.record.part, found.record.images, found.record.unreadable) == ("all", 200, ())
    first = found.samples[0]
    pixels = np.load(found.images, mmap_mode="r")[0]
    assert first.path.read_bytes() == pixels.tobytes()
    assert sorted(set(found.truth)) == list(range(10))
    with pytest.raises(DatasetError, match=r"not one of 200 images can be read .*3072.* others with --data"):
        evaluation.prepare_images(chosen, labels, InputSpec(96, 96), None, tmp_path)
    with pytest.raises(DatasetError, match=r"200 of 200 images .*class indices go from 0 to 1"):
        evaluation.prepare_images(chosen, LABELS, InputSpec(32, 32), None, tmp_path)
