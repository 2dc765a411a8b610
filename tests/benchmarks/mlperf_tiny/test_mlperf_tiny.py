"""MLPerf Tiny's image classification: its files, the child, the table, and on the real files the published figures."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mlperf_tiny import child, task
from benchmarks.mlperf_tiny.report import ModelRow, StreamSettings, TinyReport, measure_files, render, run_task
from benchmarks.mlperf_tiny.task import FLOAT_FILE, INT8_FILE, KERAS_FILE, KNOWN_HITS, LABELS, SIDE, halved, read_task
from benchmarks.peers.plan import NotMeasured
from benchmarks.peers.processes import run_process
from benchmarks.statistics import share_of, summarize_latencies
from edge_runtime.errors import DatasetError, EngineError
from edge_runtime.testing import FakeEngine, fake_classifier
from edge_runtime.workstation.datasets.samples import Sample, Split
from support.programs import run_module


def make_task(folder, pictures=6, classes=10):
    """A folder of the task's form with models that are none."""
    evaluation = folder / "eval"
    evaluation.mkdir(parents=True)
    for name in (KERAS_FILE, FLOAT_FILE, INT8_FILE):
        (folder / name).write_bytes(b"no model")
    for index in range(pictures):
        (evaluation / f"{index}.bin").write_bytes(bytes([index]) * (SIDE * SIDE * 3))
    lines = [f"{index}.bin,{classes},{index % 2 + classes - 2}\n" for index in range(pictures)]
    (evaluation / "y_labels.csv").write_text("".join(lines))
    return folder


def test_the_images_are_read_with_the_names_of_their_classes(tmp_path):
    task = read_task(make_task(tmp_path))
    assert task.images_nhwc_rgb_u8.shape == (6, SIDE, SIDE, 3)
    assert task.truth.tolist() == [LABELS.index(sample.label) for sample in task.samples]
    assert {sample.label for sample in task.samples} == {"ship", "truck"}
    assert [int(image.max()) for image in task.images_nhwc_rgb_u8] == [int(s.path.stem) for s in task.samples]
    assert 0 < task.held_out.sum() < 6


def test_what_is_missing_or_damaged_is_named_and_where_it_is_from(tmp_path):
    (make_task(tmp_path) / INT8_FILE).unlink()
    with pytest.raises(DatasetError, match=f"{INT8_FILE} is not there; take .* mlcommons/tiny"):
        read_task(tmp_path)
    with pytest.raises(DatasetError, match="mlcommons/tiny"):
        read_task(tmp_path / "nowhere")
    damaged = make_task(tmp_path / "damaged")
    (damaged / "eval/3.bin").write_bytes(b"short")
    with pytest.raises(DatasetError, match=r"3\.bin"):
        read_task(damaged)
    with pytest.raises(DatasetError, match="class indices 0 to 9"):
        read_task(make_task(tmp_path / "more", classes=12))


@given(st.lists(st.sampled_from(LABELS), max_size=60))
def test_halves_hold_the_same_classes(labels):
    samples = halved([Sample(Path(f"{index}.bin"), label) for index, label in enumerate(labels)])
    assert [sample.label for sample in samples] == labels
    parts = {split: Counter(s.label for s in samples if s.split is split) for split in Split}
    for label in set(labels):
        assert 0 <= parts[Split.VALIDATION][label] - parts[Split.TRAIN][label] <= 1


def test_single_stream_goes_on_until_there_are_enough_queries_and_enough_time():
    images = np.zeros((3, 8, 8, 3), np.uint8)
    engine = FakeEngine()
    latencies = child.single_stream(fake_classifier(engine=engine), images, queries=50, duration_s=0)
    assert latencies.shape == (50,)
    assert engine.invocations > 50  # the warm-up does not count
    slow = fake_classifier(engine=FakeEngine(delay_s=0.02))
    latencies = child.single_stream(slow, images, queries=1, duration_s=0.2)
    assert len(latencies) > 1
    assert latencies.min() >= 20e6


def test_a_file_that_is_no_model_is_not_measured(tmp_path):
    task = read_task(make_task(tmp_path))
    seen = measure_files({"published": tmp_path / FLOAT_FILE}, task, StreamSettings(5, 0), tmp_path)
    assert isinstance(seen["published"], str)
    assert FLOAT_FILE in seen["published"]


def test_a_conversion_that_fails_gives_its_last_line(tmp_path, monkeypatch):
    def fail(command, _timeout_s):
        assert command[2].endswith(KERAS_FILE)
        assert command[command.index("--calibration") + 1].endswith(".csv")
        return run_process(["sh", "-c", "(echo a warning; echo error: it is no Keras model) >&2; exit 4"], 60)

    monkeypatch.setattr(task, "run_process", fail)
    made = read_task(make_task(tmp_path))
    with pytest.raises(EngineError, match=r"could not convert pretrainedResnet\.h5: .*error: it is no Keras model"):
        task.convert(made, tmp_path)


def test_nothing_measured_is_an_error_with_all_reasons(tmp_path, monkeypatch):
    def fail(_task, _scratch):
        raise EngineError("no converter here")

    monkeypatch.setattr("benchmarks.mlperf_tiny.report.convert", fail)
    with pytest.raises(EngineError, match=r"no converter here.*published"):
        run_task(make_task(tmp_path), StreamSettings(5, 0), "command")


def test_the_table_tells_the_target_and_escapes_reasons():
    latency = summarize_latencies([[1_000_000] * 40, [2_000_000] * 60])
    rows = tuple(
        ModelRow(name, name, 1000, "0" * 64, "litert", share_of(hits, 200), share_of(9, 10), known, reaches, latency, 1)
        for name, hits, known, reaches in (("published", 171, 0.855, True), ("ours", 160, None, False))
    )
    report = TinyReport(
        *(1, "2026-01-01", "python", {"cpu_model": "cpu"}, 0.0, 0.0, (NotMeasured("ours, int8", "<b>|"),)),
        *(200, 0.85, 1024, 60.0, 1, 0.9, 0.855, rows),
    )
    text = render(report)
    lines = (line for line in text.splitlines() if line.startswith(("| published", "| ours")))
    published, ours = ([cell.strip() for cell in line.split("|")] for line in lines)
    assert (published[3:6], published[7]) == (["85.5% (80.0 to 89.7)", "85.5%", "yes"], "2.000")
    assert ours[4:6] == ["–", "no"]
    assert "<b>" not in text
    assert "at least 85%" in text


def test_absent_data_is_one_sentence(tmp_path):
    done = run_module("benchmarks.mlperf_tiny", "--data", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert "mlcommons/tiny" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_published_files_reach_their_published_accuracy(real_data, tmp_path):
    folder = real_data("mlperf_tiny_ic")
    files = {name: folder / name for name in (FLOAT_FILE, INT8_FILE)}
    for name, found in measure_files(files, read_task(folder), StreamSettings(30, 0), tmp_path).items():
        assert not isinstance(found, str), found
        assert (found.accuracy.hits, found.latency.queries) == (KNOWN_HITS[name], 30)


@pytest.mark.slow
def test_the_whole_command_on_the_published_files(real_data, tmp_path):
    out, options = tmp_path / "out", ("--duration", "0", "--queries", "100")
    done = run_module("benchmarks.mlperf_tiny", "--data", real_data("mlperf_tiny_ic"), "--out", out, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "mlperf-tiny.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert set(rows) == {"published float32", "published int8", "ours, float32", "ours, int8"}
    assert rows["ours, float32"]["accuracy"]["hits"] == KNOWN_HITS[KERAS_FILE]
    assert rows["ours, int8"]["accuracy"]["fraction"] >= report["target"]
    assert all(row["latency"]["queries"] == 100 for row in rows.values())
    assert (out / "mlperf-tiny.md").read_text() in done.stdout
