"""Exports that failed their check: reported, left out of the bundle, and shown by the exit code."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from convert.bundle import write_bundle
from convert.children import CHECK_FILE, GOLDEN_INPUT_FILE
from convert.cli import cli
from convert.options import DEFAULT_VARIANTS
from convert.record import RECORD_FILE, ConversionRecord, LeftOut
from convert.source.images import ImageArrays
from edge_runtime.contract import GOLDEN_FILE, Variant
from edge_runtime.errors import GateError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.workstation.datasets.samples import Sample
from support.conversion_records import with_figures

UNMAPPED = LeftOut("edgetpu", "no share")


def with_failed(record, *variants):
    for variant in Variant:
        drop = 3.0 if variant in variants else 0.0
        record = with_figures(record, variant, passed=not drop, drop_points=drop, max_drop_points=1.0)
    return replace(record, max_drop_points=1.0)


@pytest.fixture
def work_dir(small_bundle, tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    with np.load(small_bundle / GOLDEN_FILE) as golden:
        np.save(folder / CHECK_FILE, golden["images_nhwc_rgb_u8"])
        np.save(folder / GOLDEN_INPUT_FILE, golden["images_nhwc_rgb_u8"])
        np.save(folder / f"keras-{GOLDEN_INPUT_FILE}", golden["keras"])
        for artifact in read_bundle_manifest(small_bundle).artifacts:
            np.save(folder / f"{artifact.file}-{GOLDEN_INPUT_FILE}", golden[artifact.variant.value])
            shutil.copy(small_bundle / artifact.file, folder)
    return folder


@pytest.fixture
def write(small_run, work_dir, tmp_path):
    images = tuple(Sample(Path(f"{label}/{index}.png"), label) for label in ("blue", "red") for index in range(4))

    def write(record):
        arrays = ImageArrays(images, images, "validation", 0)
        write_bundle(tmp_path / "b", record, read_bundle_manifest(small_run), work_dir, arrays, overwrite=False)
        return tmp_path / "b"

    return write


def test_what_failed_its_check_is_reported_and_left_out(record, write):
    bundle = write(with_failed(record, Variant.INT8, Variant.ONNX_INT8))
    held = [artifact.variant for artifact in read_bundle_manifest(bundle).artifacts]
    assert held == [v for v in DEFAULT_VARIANTS if v not in (Variant.INT8, Variant.ONNX_INT8)]
    assert not (bundle / "colors-int8.tflite").exists()
    assert not (bundle / "colors-onnx-int8.onnx").exists()
    with np.load(bundle / GOLDEN_FILE) as golden:
        assert "int8" not in golden
    text = (bundle / "conversion.md").read_text()
    assert "## Not in the bundle\n\n- int8: lost 3.00 points, more than the allowed 1\n- onnx-int8: lost" in text
    failed = ConversionRecord.from_json((bundle / RECORD_FILE).read_text()).failed
    assert [entry.artifact.variant for entry in failed] == [Variant.INT8, Variant.ONNX_INT8]


def test_nothing_is_written_when_every_export_failed(record, write):
    assert not write(with_failed(record, *Variant)).exists()


@pytest.mark.parametrize(
    ("change", "words", "has_bundle"),
    [
        (lambda record: with_failed(record, Variant.INT8), "int8: lost more than allowed; not in the bundle", True),
        (lambda record: with_failed(record, *Variant), "onnx-int8: lost more than allowed", False),
        (lambda record: replace(record, left_out=(UNMAPPED,)), "edgetpu: could not be built or run", True),
    ],
)
def test_the_exit_code_says_that_something_is_missing(small_bundle, record, monkeypatch, change, words, has_bundle):
    monkeypatch.setattr("convert.conversion.convert", lambda *_args, **_kwargs: (small_bundle, change(record)))
    result = CliRunner().invoke(cli, ["run", "a-run"])
    assert isinstance(result.exception, GateError)
    assert result.exception.exit_code == 8
    assert words in str(result.exception)
    assert ("FAILED" in result.stdout) or ("LEFT OUT" in result.stdout)
    assert ("next:" in result.stdout) is has_bundle
