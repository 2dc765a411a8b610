"""The overview: a row for each run, bundle and report, whatever else lies beside them."""

import json
import os
from dataclasses import replace
from functools import partial

import pytest

from benchmarks.cli import cli
from benchmarks.overview import collect, render_overview, write_overview
from benchmarks.records import Verdict
from benchmarks.report.verdict import verdict
from edge_runtime.contract import (
    Artifact,
    Check,
    Head,
    InputSpec,
    Manifest,
    OutputSpec,
    TensorSpec,
    TrainingSummary,
    Variant,
)
from edge_runtime.errors import DataError, OutputError
from support.files import put
from support.pages import bare, headings
from support.programs import call_cli
from support.reports import Sample, sample_report

EVIL = "<img src=x onerror=alert(1)>"
TENSOR = TensorSpec("input", "float32", (1, 32, 32, 3), 0.0, 0)


def manifest(*artifacts, name="pets", recipe="cnn-small"):
    counts = {"train": 70, "validation": 10, "test": 20}
    metrics = {"test_accuracy": 0.91, "validation_accuracy": 0.95}
    training = TrainingSummary(recipe, "none", "tensorflow 2.21.0", 1, "pets", "0" * 64, counts, metrics)
    return Manifest(name, ("cat", "dog"), InputSpec(32, 32), OutputSpec(Head.SOFTMAX, 0.0, 0.5), training, artifacts)


def artifact(variant, accuracy, size):
    check = Check("litert 2.3.0", "validation", 200, accuracy, 0.95, 0.99, 0.01, 0.01, 1.0, True)
    return Artifact(variant, f"pets-{variant.value}.tflite", "0" * 64, size, TENSOR, TENSOR, "tflite 2.4.0", check)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two runs, a bundle and a report, beside a killed program's leftover."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path, "runs/pets/manifest.json", manifest().to_json())
    put(tmp_path, "runs/pets/report.html", "")
    put(tmp_path, "runs/pets/model.keras", "x" * 2_500_000)
    put(tmp_path, "runs/other/manifest.json", manifest(recipe=EVIL).to_json())
    put(tmp_path, "runs/.pets.123/manifest.json", "{")
    made = manifest(artifact(Variant.FLOAT32, 0.95, 2_000_000), artifact(Variant.INT8, 0.94, 600_000))
    put(tmp_path, "bundles/pets/manifest.json", made.to_json())
    put(tmp_path, "bundles/pets/conversion.html", "")
    report = sample_report((Sample("keras-function", 4.0), Sample("int8", 0.5)), images=50, keras_right=48)
    report = replace(report, verdict=verdict(report.subjects, (), report.machine), model_name=EVIL)
    put(tmp_path, "reports/pi/report.json", report.to_json())
    put(tmp_path, "reports/pi/report.html", "")
    put(tmp_path, "reports/before-after/compare.html", "")
    return tmp_path


@pytest.fixture
def run_overview(monkeypatch, capsys):
    return partial(call_cli, cli, monkeypatch, capsys, "edge-bench", "overview")


def texts(overview, table):
    return [[cell.text for cell in entry.cells] for entry in overview.entries if entry.table == table]


def test_each_kind_has_its_figures(place):
    found = collect([place / name for name in ("runs", "bundles", "reports", "absent")], place / "reports")
    (other, pets) = sorted(texts(found, "Training runs"))
    assert [*pets[:4], *pets[5:]] == ["pets", "91.0 %", "95.0 %", "2.50 MB", "100", "2", "cnn-small"]
    assert (other[0], other[3]) == ("other", "")
    ((name, *figures, _, variants, _, _),) = texts(found, "Bundles")
    assert (name, figures, variants) == ("pets", ["95.0 %", "0.00", "0.600 MB"], "2")
    ((name, pick, accuracy, p50, _, date, images, *_),) = texts(found, "Benchmarks")
    assert (name, pick, accuracy, p50[:3], images) == ("pi", "int8", "96.0 %", "0.5", "50")
    assert date.startswith("20")
    (benchmark,) = (entry for entry in found.entries if entry.table == "Benchmarks")
    assert [cell.doubt for cell in benchmark.cells if cell.doubt] == ["too few images to tell"]
    assert found.summary() == "2 training runs, 1 bundle, 1 benchmark, 1 comparison"


def test_the_page_links_escapes_and_stands_alone(place):
    write_overview(
        [place / name for name in ("runs", "bundles", "reports")], place / "reports/index.html", overwrite=False
    )
    page = (place / "reports/index.html").read_text()
    assert headings(page) == ["Training runs", "Bundles", "Benchmarks", "Comparisons"]
    for href in ("../runs/pets/report.html", "../bundles/pets/conversion.html", "pi/report.html"):
        assert f'<a href="{href}">' in page
    # A run without its page has no link.
    assert page.count("<a href=") == 4 + page.count('<a href="#')
    assert not [part for part in (EVIL, "<script", "<img", "http") if part in bare(page)]
    assert page.count("&lt;img") == 2


def test_a_folder_whose_name_is_no_address_is_linked_all_the_same(place):
    name = os.fsdecode(b'a b%?#\xff&"<')
    (place / "runs/pets").rename(place / "runs" / name)
    page = render_overview(collect([place / "runs"], place / "runs"))
    assert '<a href="a%20b%25%3F%23%FF%26%22%3C/report.html">a b%?# &amp;&#34;&lt;</a>' in page


@pytest.mark.parametrize(
    ("path", "text", "reason"),
    [
        ("bundles/x/manifest.json", "{", "not valid JSON"),
        ("bundles/x/manifest.json", json.dumps({"schema_version": 99}), "schema_version: expected 2, got 99"),
        ("reports/x/report.json", '{"schema_version": 2, "evil": 1}', "evil: unknown field"),
        ("runs/x/labels.txt", "", "expected manifest.json, report.json or compare.html, found none of them"),
    ],
)
def test_a_folder_that_cannot_be_read_is_a_row_that_says_why(place, run_overview, path, text, reason):
    put(place, path, text)
    code, out, err = run_overview()
    assert code == 1
    assert "1 folder not readable\noverview: reports/index.html" in out
    assert reason in err
    page = (place / "reports/index.html").read_text()
    assert headings(page)[-1] == "Not readable"
    assert reason in page
    assert ">pets</a>" in page


def test_a_named_pipe_in_place_of_a_manifest_does_not_stop_it(place):
    (place / "bundles/x").mkdir()
    os.mkfifo(place / "bundles/x/manifest.json")
    ((folder, reason),) = collect([place / "bundles"], place).broken
    assert folder.endswith("bundles/x")
    assert "expected a manifest" in reason


def test_an_earlier_overview_is_replaced_and_another_file_is_not(place, run_overview):
    assert [run_overview()[0] for _ in range(2)] == [0, 0]
    put(place, "mine.html", "mine")
    with pytest.raises(OutputError, match="is no overview"):
        write_overview([place / "runs"], place / "mine.html", overwrite=False)
    write_overview([place / "runs"], place / "mine.html", overwrite=True)
    with pytest.raises(OutputError, match="got a folder"):
        write_overview([place / "runs"], place / "runs", overwrite=True)


def test_a_training_that_runs_or_was_interrupted_is_listed_and_no_fault(place, run_overview):
    put(place, "runs/next.training/state.npz")
    code, out, _ = run_overview()
    assert (code, out.splitlines()[0]) == (
        0,
        "2 training runs, 1 bundle, 1 benchmark, 1 comparison, 1 unfinished training",
    )
    ((name, state, _),) = texts(collect([place / "runs"], place), "Unfinished trainings")
    assert (name, "--resume" in state) == ("next", True)


def test_where_nothing_is_it_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="found none; make one with edge-train run"):
        collect([tmp_path / "runs"], tmp_path)


def test_a_report_without_a_pick_has_a_row(place):
    report = replace(sample_report((Sample("int8", 0.5, error="broken"),)), verdict=Verdict(None, ""))
    put(place, "reports/none/report.json", report.to_json())
    rows = texts(collect([place / "reports/none"], place), "Benchmarks")
    assert [row[:3] for row in rows] == [["none", "none", ""]]
