"""Tables, caveats, Markdown and files of a report."""

import csv
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import records
from benchmarks.records import NotMeasured, Unreadable, Verdict, read_report
from benchmarks.report import tables
from benchmarks.report.facts import caveats
from benchmarks.report.files import render_markdown, render_table, write_answers, write_report
from benchmarks.report.tables import figure_table, main_table, moved_table, resources_table
from edge_runtime.errors import DataError, ManifestError
from edge_runtime.text import csv_plain
from edge_runtime.workstation.reporting.wording import escape_markdown, joined, p_value, signed, significant
from support import reports
from support.reports import Sample, figures_of, sample_report, with_data, with_figures

FUNCTION = Sample("keras-function", 4.0)
INT8 = Sample("int8", 0.5, lost=2, gained=1)
BROKEN = Sample("edgetpu", 1.0, error="no delegate")


def small(*samples, **options):
    return sample_report(samples or (FUNCTION, INT8), **{"images": 40, "keras_right": 36, "rounds": 6, **options})


def test_a_sample_is_as_a_run_makes_it():
    report = small(FUNCTION, INT8, BROKEN)
    int8 = figures_of(report, "int8")
    assert int8.against_keras is not None
    assert (int8.accuracy.top1.hits, int8.against_keras.lost, int8.against_keras.gained) == (35, 2, 1)
    assert int8.single_stream.speedup is not None
    assert int8.single_stream.speedup.median == pytest.approx(8, rel=0.1)
    assert (report.is_complete, small().is_complete) == (False, True)


def test_the_main_table_has_a_row_a_subject_with_intervals_and_marks_the_chosen_one():
    table = main_table(small(FUNCTION, INT8, BROKEN))
    rows = {row.cells[0].text: dict(zip(table.header, row.cells, strict=True)) for row in table.rows}
    assert list(rows) == ["keras-function", "int8", "edgetpu"]
    assert [row.kind for row in table.rows] == ["keras", "", "failed"]
    assert (rows["int8"]["accuracy"].text, rows["int8"]["accuracy"].small) == ("87.5 %", "73.9 to 94.5")
    assert rows["int8"]["against Keras, points"].text == "-2.50"
    assert rows["int8"]["speed-up"].small
    assert rows["int8"]["p50, ms"].small
    assert rows["edgetpu"]["accuracy"].text == "not measured"
    chosen = dataclasses.replace(small(), verdict=Verdict("int8", ""))
    assert [row.kind for row in main_table(chosen).rows] == ["keras", "chosen"]


def test_columns_that_nobody_fills_are_left_out():
    assert "top-5" not in main_table(small()).header
    assert "top-5" in main_table(sample_report((FUNCTION, INT8), labels=tuple("abcdef"))).header
    alone = main_table(small(INT8)).header
    assert not {"McNemar p", "agrees with Keras", "speed-up"} & set(alone)


def test_the_terminal_table_is_aligned():
    lines = render_table(small(FUNCTION, INT8, BROKEN)).splitlines()
    assert len(lines) == 5
    assert len({len(line) for line in lines}) == len({line.count("|") for line in lines}) == 1
    assert len(lines[0]) < 160


def test_tables_of_what_was_not_measured_are_left_out():
    nothing = small(BROKEN)
    assert (figure_table("Throughput", nothing), tables.threads_table(nothing), resources_table(nothing)) == (
        None,
        None,
        None,
    )
    assert "## Throughput" not in render_markdown(nothing)
    without = with_figures(small(), "int8", offline=None)
    assert figure_table("Throughput", without) is None
    resources = resources_table(small())
    assert resources is not None
    assert "energy per inference, mJ" not in resources.header


@pytest.mark.parametrize(
    ("samples", "first", "header", "order"),
    [
        ((FUNCTION, Sample("int8", 0.5, lost=2)), ["label00", "label01"], ("Keras", "int8"), "lost most against Keras"),
        ((Sample("int8", 0.5, lost=1),), ["label00"], ("int8",), "Lowest recall first"),
    ],
    ids=["beside-keras", "alone"],
)
def test_labels_that_lost_most_or_have_the_lowest_recall_come_first(samples, first, header, order):
    labels = tuple(f"label{index:02d}" for index in range(30))
    # The first images are lost, and image i has label i.
    table = tables.per_label_table(sample_report(samples, images=300, keras_right=300, labels=labels))
    assert table is not None
    assert sorted(row.cells[0].text for row in table.rows[: len(first)]) == first
    assert len(table.rows) == tables.MOST_LABELS
    assert order in table.note
    assert "10 more labels" in table.note
    assert table.header == ("label", "images", *header)


def test_moved_answers_are_sorted_by_count_and_the_rest_is_counted():
    table = moved_table(small(FUNCTION, Sample("int8", 0.5, lost=5), Sample("float32", 0.6, lost=20)))
    assert table is not None
    counts = [int(row.cells[4].text) for row in table.rows]
    assert (counts, sum(counts)) == (sorted(counts, reverse=True), 25)
    assert moved_table(small(FUNCTION, Sample("int8", 0.5))) is None
    report = small(FUNCTION, Sample("int8", 0.5, lost=5))
    against = figures_of(report, "int8").against_keras
    cut = with_figures(report, "int8", against_keras=dataclasses.replace(against, moved=against.moved[:1]))  # type: ignore[union-attr]
    assert "2 more changed answers" in moved_table(cut).note  # type: ignore[union-attr]


def test_a_sound_report_has_no_caveats_and_what_makes_a_run_invalid_is_said_first():
    assert caveats(small()) == []
    assert "Nothing: every model was measured" in render_markdown(small())
    report = dataclasses.replace(small(FUNCTION, INT8, BROKEN), invalid=("The board was throttled",))
    assert caveats(report)[0] == "Do not quote the latencies: The board was throttled."


def test_reasons_that_are_the_same_share_a_sentence():
    report = small(FUNCTION, Sample("a", 1.0, error="gone"), Sample("b", 1.0, error="gone"), INT8, Sample("c", 0.7))
    assert "a and b were not measured: gone." in caveats(report)
    for name, whats in (("int8", ("camera", "stages")), ("c", ("camera", "stages")), ("keras-function", ("camera",))):
        report = with_figures(report, name, not_measured=tuple(NotMeasured(what, "no cv2") for what in whats))
    lines = caveats(report)
    assert "Not measured of any model: camera: no cv2." in lines
    assert "Not measured of int8 and c: stages: no cv2." in lines


def test_noise_and_disturbance_are_said():
    lines = caveats(small(FUNCTION, Sample("int8", 0.5, noise=0.4), Sample("float32", 0.6), rounds=20))
    noisy = next(line for line in lines if "too noisy" in line)
    assert ("int8 (" in noisy, "float32" in noisy) == (True, False)
    assert "interval of the p50" in "".join(caveats(small(Sample("int8", 0.5, noise=0.4), rounds=20)))
    report = small()
    stream = figures_of(report, "int8").single_stream
    busy = with_figures(report, "int8", single_stream=dataclasses.replace(stream, waiting=0.4))
    assert any("Other programs used the CPU" in line and "int8 40 %" in line for line in caveats(busy))
    own_threads = with_figures(report, "keras-function", single_stream=dataclasses.replace(stream, waiting=0.3))
    assert "The CPU was busy (keras-function 30 % of the timed calls)" in " ".join(caveats(own_threads))
    assert not any("Other programs used" in line for line in caveats(own_threads))
    assert any("int8 has no interval" in line for line in caveats(small(rounds=2)))


def test_images_that_do_not_tell_are_said():
    def lines(**data):
        return "\n".join(caveats(with_data(small(), **data)))

    assert "1 of 41 images was left out" in lines(unreadable=(Unreadable("x.jpg", "empty"),))
    assert "3 of 40 images were in the training part" in lines(trained_on=3)
    assert "Unknown: training images" in lines(trained_on=None)
    assert "selected the weights" in lines(part="validation")


def test_a_missing_keras_is_said():
    assert "--keras RUN" in "".join(caveats(small(INT8)))
    assert "it was not measured" in "".join(caveats(small(Sample("keras-function", 4.0, error="died"), INT8)))
    remarked = dataclasses.replace(small(), remarks=("int8 did not pass its check",))
    assert caveats(remarked) == ["int8 did not pass its check."]


def test_markdown_has_every_section_and_escapes_text_of_people_and_files():
    report = small(FUNCTION, INT8, Sample("edgetpu", 1.0, error="dir/[x](y)|z: broken\nsecond ~~line~~"))
    bad = (Unreadable("a|b\n<img src=x>.jpg", "is *not* a `image`\x1b[31m"),)
    report = reports.with_machine(with_data(report, unreadable=bad, source="# photos"), cpu_model="A | <b>chip</b>")
    text = render_markdown(dataclasses.replace(report, command="edge-bench run 'a|b'"))
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    expected = "Latency, Throughput, Camera, Stages, Cold start, Threads, Scores, By label, Where errors moved, Machine"
    assert set(expected.split(", ")) < set(titles)
    assert not {"<img", "<b>", "\x1b", "~~line~~ "} & {part for part in ("<img", "<b>", "\x1b") if part in text}
    assert r"a\|b &lt;img src=x&gt;.jpg: is \*not\* a \`image\`" in text
    assert r"dir/\[x\](y)\|z: broken second \~\~line\~\~" in text
    assert r"edge-bench run 'a\|b'" in text


@given(st.text())
def test_escaped_text_stays_in_its_cell(text):
    found = escape_markdown(text)
    assert len(found.splitlines()) <= 1
    assert "<" not in found
    assert "|" not in found.replace(r"\\", "").replace(r"\|", "")
    assert not found.lstrip().startswith(("#", "- ", "+ "))


def test_all_files_are_written_and_read_again(tmp_path):
    samples = (FUNCTION, INT8, BROKEN)
    report = small(*samples)
    latencies = reports.sample_latencies(samples, rounds=2, calls=3)
    write_report(tmp_path, report, latencies, reports.sample_answers(samples, images=40, keras_right=36))
    assert read_report(tmp_path) == report
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".md", ".html", ".csv"}
    rows = list(csv.DictReader((tmp_path / records.LATENCIES_FILE).open()))
    assert len(rows) == 2 * 2 * 3
    assert (rows[4]["subject"], rows[4]["round"], rows[4]["call"]) == ("keras-function", "1", "1")
    assert float(rows[4]["latency_ms"]) == pytest.approx(latencies["keras-function"][1][1], abs=1e-6)
    answers = list(csv.DictReader((tmp_path / records.ANSWERS_FILE).open()))
    assert (answers[0]["label"], answers[0]["int8"]) == ("cat", "dog")


def test_answers_keep_names_as_they_are(tmp_path):
    names = ("=cmd|'/c calc'!A0.jpg", 'a,"b".jpg', "line\nbreak.jpg", "byte\udcff.jpg")
    write_answers(tmp_path / "a.csv", records.Answers(names, ("x",) * 4, {"int8": ("y",) * 4}))
    with (tmp_path / "a.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(csv_plain(row["file"]) for row in rows) == names
    assert b"\"'=cmd" in (tmp_path / "a.csv").read_bytes()


def test_a_report_of_another_shape_is_refused_by_field(tmp_path):
    data = json.loads(small().to_json())
    data["machine"]["colour"] = "green"
    (tmp_path / records.REPORT_FILE).write_text(json.dumps(data))
    with pytest.raises(ManifestError, match=r"machine\.colour"):
        read_report(tmp_path)
    with pytest.raises(DataError, match=r"expected a report"):
        read_report(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("value", "text"), [(0.0066, "0.007"), (0.70412, "0.704"), (9.314, "9.31"), (66.12, "66.1"), (113.7, "114")]
)
def test_significant_digits(value, text):
    assert significant(value) == text


def test_words_of_figures():
    assert [signed(value) for value in (0.004, -0.004, 1.0, -2.345)] == ["0.00", "0.00", "+1.00", "-2.35"]
    assert [p_value(value) for value in (0.0001, 0.0123, 0.5)] == ["< 0.001", "0.012", "0.50"]
    assert [joined(names) for names in ((), ("a",), ("a", "b"), ("a", "b", "c"))] == ["", "a", "a and b", "a, b and c"]
