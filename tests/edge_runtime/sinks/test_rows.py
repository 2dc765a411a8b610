"""Sinks: the JSONL schema, one line a record whatever a name holds, and a table that keeps its columns."""

import csv
import io
import json
import os
import re
from functools import partial

import pytest

from edge_runtime.results import (
    Classified,
    Decision,
    Failed,
    FrameStamp,
    LatencyMs,
    Prediction,
    SourceState,
    StateChange,
)
from edge_runtime.sinks.base import NewsOnly, is_news
from edge_runtime.sinks.rows import CsvSink, FrameSink, JsonlSink, TableSink, open_frame_sink
from edge_runtime.text import columns, escape, fit, fit_path

LATENCY = LatencyMs(decode=1.25, preprocess=0.5, invoke=2.0)
TOP = (Prediction("cat", 0.9), Prediction("dog", 0.1))
GONE = StateChange("camera", SourceState.RECONNECTING, 1700000000.5, "gave no frame for 5 s")
NASTY = "bad\x1b[31m\nname\x9b2J\x7f\u202e\udcff.jpg"


def classified(source="a.jpg", top=TOP, frame=None):
    return Classified(source, top, LATENCY, frame)


def written(make, *results):
    stream = io.StringIO()
    sink = make(stream)
    for result in results:
        sink.write(result)
    sink.close()
    return stream.getvalue()


def frame_rows(*results):
    return [*csv.DictReader(io.StringIO(written(partial(CsvSink, ranks=1, frames=True), *results)), strict=True)]


def test_jsonl_has_the_documented_fields():
    text = written(JsonlSink, classified(), Failed("b.jpg", "ImageError", "is empty"))
    first, second = map(json.loads, text.splitlines())
    assert first == {
        "source": "a.jpg",
        "label": "cat",
        "score": 0.9,
        "top": [{"label": "cat", "score": 0.9}, {"label": "dog", "score": 0.1}],
        "latency_ms": {"decode": 1.25, "preprocess": 0.5, "invoke": 2.0},
    }
    assert second == {"source": "b.jpg", "error": {"type": "ImageError", "message": "is empty"}}


def test_jsonl_says_when_a_live_frame_was_captured_and_not_for_a_file():
    stamps = FrameStamp(7, 0.25, 1700000000.5, 12.0), FrameStamp(7, 0.25, None, 12.0)
    live, file = map(json.loads, written(JsonlSink, *(classified(frame=stamp) for stamp in stamps)).splitlines())
    stamp = {"frame": 7, "time_s": 0.25, "captured_at": 1700000000.5, "age_ms": 12.0}
    assert {name: live[name] for name in stamp} == stamp
    assert "captured_at" not in file


def test_jsonl_round_trips_any_file_name_without_control_characters():
    line = written(JsonlSink, classified(NASTY)).removesuffix("\n")
    assert line.isprintable()
    assert os.fsencode(json.loads(line)["source"]) == os.fsencode(NASTY)
    assert "猫/é.jpg" in written(JsonlSink, classified("猫/é.jpg"))


@pytest.mark.parametrize("kind", ["table", "frames", "csv"])
@pytest.mark.parametrize("failed", [False, True])
def test_control_characters_of_names_labels_and_messages_are_escaped(kind, failed):
    stream = io.StringIO()
    labels = ["\x1b]0;owned\x07", "dog"]
    sinks = {"table": TableSink(stream, labels), "frames": FrameSink(stream, labels), "csv": CsvSink(stream, ranks=2)}
    start = stream.tell()
    answer = classified(NASTY, (Prediction(labels[0], 0.5), TOP[1]))
    sinks[kind].write(Failed(NASTY, "ImageError", NASTY) if failed else answer)
    line = stream.getvalue()[start:].removesuffix("\n")
    assert line.isprintable()
    assert line.encode("utf-8")
    assert "\\x1b" in line


def test_csv_rows_have_the_header_s_columns():
    results = classified('=1+1, "x".jpg'), Failed("b.jpg", "ImageError", "is empty")
    header, first, second = csv.reader(io.StringIO(written(partial(CsvSink, ranks=3), *results)))
    assert header[:7] == ["source", "label", "score", "label_2", "score_2", "label_3", "score_3"]
    assert header[7:] == ["decode_ms", "preprocess_ms", "invoke_ms", "error"]
    assert first == ['\'=1+1, "x".jpg', "cat", "0.9", "dog", "0.1", "", "", "1.25", "0.5", "2.0", ""]
    assert second == ["b.jpg", *[""] * 9, "ImageError: is empty"]


def test_csv_of_frames_adds_their_columns():
    (row,) = frame_rows(classified(frame=FrameStamp(3, 0.1, None, 5.0)))
    assert (row["frame"], row["captured_at"]) == ("3", "")


def test_csv_of_frames_tells_decisions_and_states_in_the_same_columns():
    stamp = FrameStamp(3, 0.1, 1700000000.25, 5.0)
    event, nothing, gone, failed = frame_rows(
        Classified("0", TOP[:1], LATENCY, stamp, Decision("cat", 0.8, event=True)),
        Classified("0", TOP[:1], LATENCY, stamp, Decision(None, 0.3, event=False), rejected=True),
        GONE,
        Failed("0", "ImageError", "is broken"),
    )
    assert [*event][-7:] == ["decision", "decision_score", "event", "rejected", "state", "state_reason", "error"]
    assert [*event.values()][-7:] == ["cat", "0.8", "true", "false", "", "", ""]
    assert [*nothing.values()][-7:] == ["", "0.3", "false", "true", "", "", ""]
    state = {"state": "reconnecting", "state_reason": "gave no frame for 5 s"}
    told = {name: value for name, value in gone.items() if value}
    assert told == {"source": "camera", "captured_at": "1700000000.5", **state}
    assert failed["error"] == "ImageError: is broken"


def test_a_camera_that_went_is_a_line_in_every_form():
    told = {"state": "reconnecting", "at": 1700000000.5, "reason": "gave no frame for 5 s"}
    assert json.loads(written(JsonlSink, GONE)) == {"source": "camera", **told}
    frame, table = (partial(kind, labels=["cat", "dog"]) for kind in (FrameSink, TableSink))
    for line in (written(frame, GONE), written(table, GONE).removeprefix(written(table))):
        assert "reconnecting: gave no frame for 5 s" in line
        assert line.endswith("\n")
        assert line.count("\n") == 1
    line = written(frame, StateChange("camera", SourceState.CONNECTED, 0.0))
    assert re.fullmatch(r"\d\d:\d\d:\d\d  connected\n", line)


def test_only_news_are_passed_on_when_events_are_asked():
    plain, event = classified(), Classified("0", TOP, LATENCY, None, Decision("cat", 0.8, event=True))
    still = Classified("0", TOP, LATENCY, None, Decision("cat", 0.8, event=False))
    news = [is_news(result) for result in (plain, event, still, GONE, Failed("0", "a", "b"))]
    assert news == [False, True, False, True, True]
    stream = io.StringIO()
    sink = open_frame_sink("text", stream, ["cat", "dog"], 2, every="event")
    assert isinstance(sink, NewsOnly)
    for result in (plain, event, still, GONE):
        sink.write(result)
    sink.close()
    first, second = stream.getvalue().splitlines()
    assert "event: cat 0.800" in first
    assert second.endswith("reconnecting: gave no frame for 5 s")
    line = written(lambda stream: open_frame_sink("jsonl", stream, ["cat", "dog"], 2), plain)
    assert json.loads(line)["label"] == "cat"


def test_table_keeps_its_columns_for_long_and_wide_text():
    stream = io.StringIO()
    sink = TableSink(stream, ["cat", "a label that is far too long for a column"])
    for source in ("a.jpg", "folder/" * 30 + "cat.jpg", "猫" * 40 + ".jpg"):
        sink.write(classified(source))
        sink.write(classified(source, (Prediction("a label that is far too long for a column", 0.1),)))
    header, *rows = stream.getvalue().splitlines()
    assert {columns(row[: row.index("0.")]) for row in rows} == {header.index("score")}


def test_table_gives_the_whole_reason_of_a_failure():
    reason = "expected something, got something else, " * 20
    assert reason in written(partial(TableSink, labels=["a", "b"]), Failed("a.jpg", "ImageError", reason))


def test_frame_lines_tell_the_time_in_the_video():
    line = written(partial(FrameSink, labels=["cat", "dog"]), classified(frame=FrameStamp(75, 3723.5, None, 5.0)))
    assert line == "01:02:03.500  frame     75  cat    0.900     3.8  dog 0.100\n"


@pytest.mark.parametrize("width", [8, 9, 16, 30])
@pytest.mark.parametrize(
    "path", ["/a/very/long/way/to/cats/cat.1.jpg", "a_name_without_any_folder_at_all.jpg", "é" * 40]
)
def test_shortened_paths_fit_and_keep_their_end(path, width):
    short = fit_path(path, width)
    assert columns(short) <= width
    assert "…" in short
    assert short[-3:] == path[-3:]


def test_paths_are_shortened_at_a_folder_and_text_is_cut_by_columns_and_escaped_only_where_needed():
    assert fit_path("/a/very/long/way/to/cats/cat.1.jpg", 20) == "…/to/cats/cat.1.jpg"
    assert fit_path("cats/cat.1.jpg", 14) == "cats/cat.1.jpg"
    assert fit("abcdef", 6) == "abcdef"
    assert fit("abcdef", 4) == "abc…"
    assert fit("猫猫猫", 5) == "猫猫…"
    assert escape("plain \\ é 猫") == "plain \\ é 猫"
    assert escape("\x1b\n\udcff\u202e") == "\\x1b\\n\\udcff\\u202e"
