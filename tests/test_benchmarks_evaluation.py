"""Which pictures are measured on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.evaluation import Chosen, choose_part, limit_samples, prepare_pictures
from edge_runtime.contract import InputSpec
from edge_runtime.datasets.samples import Sample, Split
from edge_runtime.errors import DatasetError, UsageError
from edge_runtime.modelfile import file_sha256

LABELS = ("cat", "dog")
SPEC = InputSpec(8, 8)


def pictures(folder: Path, count: int) -> tuple[Sample, ...]:
    samples = []
    for number in range(count):
        path = folder / f"{number}.png"
        assert cv2.imwrite(str(path), np.full((8, 8, 3), 10 * number, np.uint8))
        samples.append(Sample(path, LABELS[number % 2], Split.TEST, file_sha256(path)))
    return tuple(samples)


def test_pictures_keep_their_order_and_labels_when_some_are_left_out(tmp_path: Path) -> None:
    missing, altered, broken, first, second = pictures(tmp_path, 5)
    missing.path.unlink()
    altered = replace(altered, sha256="0" * 64)
    broken.path.write_text("no picture")
    chosen = Chosen("photos", "test", (missing, replace(broken, sha256=""), first, altered, second), 0)
    found = prepare_pictures(chosen, LABELS, SPEC, None, tmp_path)
    assert [sample.path for sample in found.samples] == [first.path, second.path]
    assert found.truth == (1, 0)
    assert np.load(found.images)[:, 0, 0, 0].tolist() == [30, 40]
    reasons = {Path(item.file).name: item.reason for item in found.record.unreadable}
    assert "No such file" in reasons["0.png"]
    assert "was altered" in reasons["1.png"]
    assert "is not a picture" in reasons["2.png"]
    assert (found.record.images, found.record.trained_on) == (2, None)


def test_class_indices_become_the_models_labels(tmp_path: Path) -> None:
    samples = tuple(replace(sample, label=str(LABELS.index(sample.label))) for sample in pictures(tmp_path, 3))
    found = prepare_pictures(Chosen("tiny", "all", samples, 0), LABELS, SPEC, None, tmp_path)
    assert [sample.label for sample in found.samples] == ["cat", "dog", "cat"]
    assert found.truth == (0, 1, 0)
    assert found.record.images_per_label == {"cat": 2, "dog": 1}
    too_high = (*samples, replace(samples[0], label="2"))
    with pytest.raises(DatasetError, match="holds labels that the model does not know: '0', '1', '2'"):
        prepare_pictures(Chosen("tiny", "all", too_high, 0), LABELS, SPEC, None, tmp_path)


def test_pictures_that_the_model_was_trained_on_are_counted(tmp_path: Path) -> None:
    samples = pictures(tmp_path, 4)
    trained_on = frozenset(sample.sha256 for sample in samples[:3])
    found = prepare_pictures(Chosen("photos", "all", samples, 0), LABELS, SPEC, trained_on, tmp_path)
    assert found.record.trained_on == 3


def test_pictures_none_of_which_can_be_read_are_refused_with_a_reason(tmp_path: Path) -> None:
    samples = pictures(tmp_path, 2)
    for sample in samples:
        sample.path.unlink()
    with pytest.raises(DatasetError, match=r"not one of 2 pictures can be read .*0\.png"):
        prepare_pictures(Chosen("photos", "all", samples, 0), LABELS, SPEC, None, tmp_path)


@pytest.mark.parametrize(
    ("present", "wanted", "used"),
    [
        ((Split.TRAIN, Split.VALIDATION, Split.TEST), None, "test"),
        ((Split.TRAIN, Split.VALIDATION), None, "validation"),
        ((Split.TRAIN, Split.VALIDATION, Split.TEST), Split.TRAIN, "train"),
        ((None,), None, "all"),
    ],
)
def test_part_is_test_else_validation(present: tuple[Split | None, ...], wanted: Split | None, used: str) -> None:
    samples = [Sample(Path(f"{split}.png"), "cat", split) for split in present]
    part, chosen = choose_part("photos", samples, wanted)
    assert part == used
    assert [sample.split for sample in chosen] == ([None] if used == "all" else [Split(used)])


@pytest.mark.parametrize(("split", "wanted"), [(Split.TRAIN, None), (Split.TEST, Split.VALIDATION), (None, Split.TEST)])
def test_part_that_is_not_there_is_refused(split: Split | None, wanted: Split | None) -> None:
    with pytest.raises(UsageError, match="--split"):
        choose_part("photos", [Sample(Path("a.png"), "cat", split)], wanted)


def test_limit_draws_from_the_whole_in_the_old_order() -> None:
    samples = tuple(Sample(Path(f"{number:03}.png"), "cat") for number in range(300))
    drawn = limit_samples(samples, 30)
    assert len(set(drawn)) == 30
    assert list(drawn) == sorted(drawn, key=lambda sample: sample.path)
    assert max(sample.path for sample in drawn) > Path("200.png")
    assert limit_samples(samples, 30) == drawn
    assert limit_samples(samples, 300) == limit_samples(samples, None) == samples
