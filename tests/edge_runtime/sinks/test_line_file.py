"""Files of lines as crashes leave them, and files of others."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from edge_runtime.errors import OutputError
from edge_runtime.results import Classified, FrameStamp, LatencyMs, Prediction
from edge_runtime.sinks.files import FileSink

LABELS = ["cat", "dog"]


def write(path: Path, numbers: range, format_name: str) -> None:
    sink = FileSink(path, format_name, LABELS, 2)
    for number in numbers:
        frame = FrameStamp(number, 0.0, 1700000000.0, 1.0)
        sink.write(Classified("0", (Prediction("cat", 0.9), Prediction("dog", 0.1)), LatencyMs(1, 1, 1), frame))
    sink.close()


def whole_frames(path: Path) -> list[int]:
    """Frame numbers of a JSONL or CSV file whose every line must be whole."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    if text.startswith("{"):
        return [json.loads(line)["frame"] for line in text.splitlines()]
    return [int(row["frame"]) for row in csv.DictReader(text.splitlines())]


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
@pytest.mark.parametrize("tail", ["half", "zeros", "header"])
def test_what_a_crash_left_of_the_last_line_is_cut(tmp_path: Path, format_name: str, tail: str) -> None:
    path = tmp_path / "out"
    write(path, range(3), format_name)
    data = path.read_bytes()
    path.write_bytes({"half": data[:-20], "zeros": data + bytes(200_000), "header": data[:7]}[tail])
    write(path, range(10, 12), format_name)
    assert whole_frames(path) == {"half": [0, 1, 10, 11], "zeros": [0, 1, 2, 10, 11], "header": [10, 11]}[tail]


@pytest.mark.parametrize(
    "data",
    [
        b"dear diary,\nno newline here",
        b'{\n  "source": "a document"\n}',
        b"[1, 2]\n",
        b"\xff\xd8\xff\xe0 a photo",
        b'{"source": ' + b"x" * 3_000_000,
        b"source,label,score\n",
        b"[" * 100_000 + b"\n",
    ],
)
@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
def test_a_file_that_holds_something_else_is_left_alone(tmp_path: Path, data: bytes, format_name: str) -> None:
    path = tmp_path / "out"
    path.write_bytes(data)
    with pytest.raises(OutputError, match="holds something else"):
        FileSink(path, format_name, LABELS, 2)
    assert path.read_bytes() == data
