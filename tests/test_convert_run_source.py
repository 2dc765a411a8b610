"""Which pictures calibrate and check a conversion."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.run_source import read_run, stratified
from edge_runtime.datasets.samples import Sample, Split
from edge_runtime.errors import DatasetError, ModelError


@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5), count=st.integers(1, 40), seed=st.integers(0, 2**32 - 1)
)
def test_classes_take_turns_until_one_runs_out(sizes, count, seed):
    samples = [
        Sample(Path(f"{label}/{index}"), f"class{label}") for label, size in enumerate(sizes) for index in range(size)
    ]
    chosen = stratified(samples, count, seed)
    assert len(chosen) == len(set(chosen)) == min(count, len(samples))
    assert chosen == stratified(samples, count, seed)
    counts = Counter(sample.label for sample in chosen)
    for label, size in enumerate(sizes):
        # No class is behind another by more than one, unless it has no more pictures.
        assert counts[f"class{label}"] >= min(size, max(counts.values()) - 1)


def test_calibration_comes_from_training_and_checks_from_validation(small_run):
    source = read_run(small_run, None, 10)
    assert len(source.representative) == 10
    assert Counter(sample.label for sample in source.representative) == {"blue": 5, "red": 5}
    assert {sample.split for sample in source.representative} == {Split.TRAIN}
    assert {sample.split for sample in (*source.check, *source.golden)} == {Split.VALIDATION}
    assert len(source.golden) <= 8


def test_other_pictures_take_their_place_when_named(small_run, colored_pictures):
    source = read_run(small_run, str(colored_pictures), 7)
    assert len(source.representative) == 7
    assert len(source.check) == 60


def test_what_cannot_be_converted_is_said(small_run, tmp_path):
    with pytest.raises(ModelError, match="expected a run directory"):
        read_run(tmp_path, None, 10)
    for label in ("green", "red"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "x.png").write_bytes(b"x")
    with pytest.raises(DatasetError, match="labels the model does not know: green"):
        read_run(small_run, str(tmp_path), 10)


def test_pictures_that_are_gone_are_said(small_run, tmp_path):
    for name in ("model.keras", "manifest.json"):
        (tmp_path / name).write_bytes((small_run / name).read_bytes())
    lines = (small_run / "split.csv").read_text().splitlines()
    (tmp_path / "split.csv").write_text(f"{lines[0]}\n/no/such/picture.png,{'0' * 64},red,train\n")
    with pytest.raises(DatasetError, match=r"pictures are not here.*--calibration"):
        read_run(tmp_path, None, 10)
