"""Rows, caveats and rendering of a report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench import compare
from benchmarks.machine import MachineRecord
from benchmarks.measure import Measurement
from benchmarks.plan import SubjectPlan
from benchmarks.report.markdown import caveats, escape, render_markdown, render_table, significant
from benchmarks.report.record import REPORT_FILE, ColdStart, DataRecord, Report, Unreadable, read_report
from edge_runtime.errors import DataError, ManifestError

TRUTH = (0, 1, 0, 1)
MACHINE = MachineRecord("A | <b>chip</b>", "x86_64", 2, 2, None, None, 0.1, "Linux 6", "3.11", {"numpy": "2"})
DATA = DataRecord("photos", "test", 4, {"cat": 2, "dog": 2}, "0" * 64, (), 0, 0)


def measurement(name: str, top1: tuple[int, ...] = TRUTH, p50_ms: int = 2) -> Measurement:
    plan = SubjectPlan(name, "module", Path("m"), name, Path(f"m/{name}.tflite"), 1_234_567, 1, 3)
    cold_start = ColdStart((400.0,), 400.0, 100.0, 200.0, 60.0, 40.0)
    latencies_ns = (p50_ms * 1_000_000, 1_000, 900_000_000)
    return Measurement(plan, None, "litert 2.3.0", False, cold_start, latencies_ns, 0.01, 70_000_000, top1)


def report(*measurements: Measurement, data: DataRecord = DATA, keras_run: str | None = "run") -> Report:
    return Report(
        tool="edgekit 0",
        created_utc="2026-01-01T00:00:00+00:00",
        command="edge-bench run 'a|b'",
        model_name="pets",
        bundle="bundle",
        bundle_manifest_sha256="1" * 64,
        keras_run=keras_run,
        threads=1,
        machine=MACHINE,
        data=data,
        subjects=compare(measurements, TRUTH),
        remarks=(),
    )


def failed(name: str, reason: str) -> Measurement:
    return dataclasses.replace(measurement(name), error=reason, cold_start=None, top1=(), latencies_ns=())


def test_rows_compare_with_keras() -> None:
    predict = measurement("keras-predict", top1=(0, 1, 1, 1), p50_ms=100)
    rows = compare([predict, measurement("keras-function", p50_ms=10), measurement("int8", (0, 1, 1, 0), 4)], TRUTH)
    reference, function, int8 = (row.performance for row in rows)
    assert reference is not None
    assert function is not None
    assert int8 is not None
    assert reference.agreement is None
    assert (reference.accuracy.hits, reference.speedup) == (3, pytest.approx(0.1))
    assert (int8.accuracy.hits, int8.accuracy.total) == (2, 4)
    assert int8.agreement is not None
    assert int8.agreement.hits == 3
    assert int8.speedup == pytest.approx(2.5)
    assert function.speedup == pytest.approx(1.0)


def test_rows_use_keras_function_where_predict_failed_and_nothing_where_both_did() -> None:
    function = measurement("keras-function", top1=(1, 1, 1, 1))
    rows = compare([failed("keras-predict", "died"), function, measurement("int8")], TRUTH)
    assert rows[2].performance is not None
    assert rows[2].performance.agreement is not None
    assert rows[2].performance.agreement.hits == 2
    alone = compare([failed("keras-predict", "died"), failed("keras-function", "died"), measurement("int8")], TRUTH)
    assert alone[2].performance is not None
    assert (alone[2].performance.agreement, alone[2].performance.speedup) == (None, None)


def test_table_has_one_row_a_subject_and_equal_columns() -> None:
    table = render_table(report(measurement("float32"), failed("edgetpu", "no delegate"))).splitlines()
    assert len(table) == 4
    assert len({line.count("|") for line in table}) == len({len(line) for line in table}) == 1
    assert "100.0 % (51.0 to 100.0)" in table[2]
    assert "1.23 MB" in table[2]
    assert "0.40 s" in table[2]
    assert "not measured" in table[3]


def test_markdown_escapes_text_of_people_and_files() -> None:
    data = dataclasses.replace(DATA, unreadable=(Unreadable("a|b\n<img src=x>.jpg", "is *not* a `picture`\x1b[31m"),))
    text = render_markdown(report(failed("int8", "dir/[x](y)|z: broken\nsecond line"), data=data))
    assert "<img" not in text
    assert "<b>" not in text
    assert "\x1b" not in text
    assert r"a\|b &lt;img src=x&gt;.jpg: is \*not\* a \`picture\`" in text
    assert r"dir/\[x\](y)\|z: broken second line" in text


@given(st.text())
def test_escaped_text_stays_in_its_cell(text: str) -> None:
    found = escape(text)
    assert len(found.splitlines()) <= 1
    assert "<" not in found
    assert "|" not in found.replace(r"\\", "").replace(r"\|", "")


def test_caveats_say_what_was_not_measured() -> None:
    assert caveats(report(measurement("int8"))) == []
    data = dataclasses.replace(DATA, unreadable=(Unreadable("x.jpg", "empty"),), trained_on=None)
    lines = caveats(report(failed("int8", "was altered"), data=data, keras_run=None))
    assert any("int8 was not measured: was altered" in line for line in lines)
    assert any("--keras RUN" in line for line in lines)
    assert any("1 of 5 pictures" in line for line in lines)
    busy = dataclasses.replace(measurement("int8"), waiting=0.4)
    assert any("Other programs had the processor" in line and "int8 40%" in line for line in caveats(report(busy)))
    leaking = dataclasses.replace(DATA, trained_on=3)
    assert any("3 of 4 pictures were in the training part" in line for line in caveats(report(data=leaking)))


def test_report_survives_strict_parsing(tmp_path: Path) -> None:
    written = report(measurement("int8"), failed("edgetpu", "no delegate"))
    (tmp_path / REPORT_FILE).write_text(written.to_json(), encoding="utf-8")
    assert read_report(tmp_path) == written
    assert not written.is_complete
    assert report(measurement("int8")).is_complete


def test_report_of_another_shape_is_refused_by_field(tmp_path: Path) -> None:
    data = json.loads(report(measurement("int8")).to_json())
    data["machine"]["colour"] = "green"
    (tmp_path / REPORT_FILE).write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=r"machine\.colour"):
        read_report(tmp_path)
    with pytest.raises(DataError, match=r"expected a report"):
        read_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0066, "0.007"), (0.70412, "0.704"), (9.314, "9.31"), (66.12, "66.1"), (113.7, "114")]
)
def test_significant_digits(value: float, text: str) -> None:
    assert significant(value) == text
