"""The file of a camera's results: rotation, whole lines through every fault, and one writer."""

import csv
import errno
import itertools
import json
import os
import resource
import time

import pytest

from edge_runtime.errors import OutputError
from edge_runtime.results import SourceState, StateChange
from edge_runtime.sinks.background import BackgroundSink
from edge_runtime.sinks.files import AppendedFile, FileSink, open_file_sink
from support.programs import killed_code, run_code
from support.results import classified
from support.waiting import wait_until


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out"


def opened(path, format_name="jsonl", **options):
    return FileSink(path, format_name, ["cat", "dog"], 2, **options)


def frames_of(path):
    """Frame numbers of a JSONL or CSV file whose every line must be whole."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    if text.startswith("{"):
        return [json.loads(line)["frame"] for line in text.splitlines()]
    rows = list(csv.reader(text.splitlines()))
    assert {len(row) for row in rows} == {len(rows[0])}
    return [int(row[1]) for row in rows[1:]]


def write(path, numbers, format_name="jsonl", **options):
    with opened(path, format_name, **options) as sink:
        for number in numbers:
            sink.write(classified(number=number))
        sink.close()


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
def test_full_files_are_kept_under_numbers_and_every_line_is_whole(tmp_path, format_name):
    path = tmp_path / "new" / "out"
    write(path, range(400), format_name, max_bytes=4000, keep=3)
    names = [".out.lock", "out", "out.1", "out.2", "out.3"]
    assert sorted(file.name for file in path.parent.iterdir()) == names
    frames = [frames_of(path.with_name(name)) for name in ("out.3", "out.2", "out.1", "out")]
    assert all(frames)
    assert frames[0][0] > 0
    assert [*itertools.chain.from_iterable(frames)] == list(range(frames[0][0], 400))
    assert all(path.with_name(name).stat().st_size <= 4000 for name in names)


def test_a_later_run_appends_without_a_second_header(path):
    write(path, range(3), "csv")
    write(path, range(3, 5), "csv")
    assert frames_of(path) == [0, 1, 2, 3, 4]


def test_a_line_longer_than_a_file_may_be_is_written_alone(path):
    write(path, range(3), max_bytes=10)
    assert [frames_of(path.with_name(name)) for name in ("out.2", "out.1", "out")] == [[0], [1], [2]]


def test_a_state_change_is_a_line_too(path):
    with opened(path) as sink:
        sink.write(StateChange("0", SourceState.STALLED, 1.5))
    assert json.loads(path.read_text()) == {"source": "0", "state": "stalled", "at": 1.5}


@pytest.mark.parametrize("name", ["folder", "pipe", "file/below", "/dev/null", "/proc/out"])
def test_what_is_no_file_is_one_sentence(tmp_path, name):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(OutputError, match=r"cannot be written|got a device"):
        AppendedFile(path)
    assert not path.with_name(f".{path.name}.lock").exists()


def test_a_second_writer_is_refused_and_the_first_goes_on(tmp_path, path):
    (tmp_path / "link").symlink_to(path)
    first = opened(path, max_bytes=600)
    first.write(classified(number=0))
    code = (
        "import sys; from pathlib import Path; from edge_runtime.sinks.files import AppendedFile\n"
        "from edge_runtime.errors import OutputError\n"
        "try:\n    AppendedFile(Path(sys.argv[1]))\nexcept OutputError as error:\n    sys.exit(str(error))\n"
    )
    for other in (path, tmp_path / "link"):
        done = run_code(code, other, check=False)
        assert done.stderr.endswith("another edge-run is writing there; stop that one or choose another name\n")
        assert done.stderr.count("\n") == 1
    with pytest.raises(OutputError, match="another edge-run"):
        opened(path, "csv")
    for number in range(1, 9):  # rotation does not open a gap for a second writer
        first.write(classified(number=number))
        with pytest.raises(OutputError, match="another edge-run"):
            AppendedFile(path)
    first.close()
    write(path, range(9, 10))


def test_a_full_disk_leaves_whole_lines_and_is_overcome(small_disk):
    ballast, path, number = small_disk / "ballast", small_disk / "out", 0
    ballast.write_bytes(bytes(100_000))
    sink = open_file_sink(path, "jsonl", ["cat", "dog"], 2)
    assert isinstance(sink, BackgroundSink)

    def write_until(condition):
        nonlocal number
        if not condition():
            sink.write(classified(number=number))
            number += 1
        return condition()

    wait_until(lambda: write_until(lambda: sink.problem is not None), "a problem", step_s=0.001)
    assert sink.problem == "No space left on device"
    assert sink.dropped > 0
    assert frames_of(path)
    ballast.unlink()
    wait_until(lambda: write_until(lambda: sink.problem is None), "no problem", step_s=0.001)
    sink.write(classified(number=number))
    sink.close()
    frames = frames_of(path)
    assert frames == sorted(set(frames))
    assert frames[-1] == number
    assert len(frames) + sink.dropped == number + 1


def test_a_full_disk_at_rotation_is_overcome(small_disk):
    (small_disk / "ballast").write_bytes(bytes(110_000))
    failures, sink = 0, opened(small_disk / "out", "csv", max_bytes=3_000, keep=50)
    for number in range(600):
        if number == 500:
            (small_disk / "ballast").unlink()
        try:
            sink.write(classified(number=number))
        except OSError as error:
            failures += error.errno == errno.ENOSPC
    sink.close()
    assert failures
    kept = [number for file in small_disk.glob("out*") if file.stat().st_size for number in frames_of(file)]
    assert len(kept) + failures == 600
    assert set(range(500, 600)) <= set(kept)


def test_a_write_that_fails_in_its_middle_is_cut_back(path):
    with opened(path) as sink:
        sink.write(classified(number=0))
        size = path.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                sink.write(classified(number=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size
        sink.write(classified(number=2))
    assert frames_of(path) == [0, 2]


def fail(*_arguments):
    raise OSError(errno.EIO, "Input/output error")


def test_where_even_cutting_fails_the_file_is_repaired_at_the_next_line(path, monkeypatch):
    real_write = os.write
    with opened(path) as sink:
        sink.write(classified(number=0))
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda handle, data: real_write(handle, data[:10]) and fail())
            patch.setattr(os, "ftruncate", fail)
            with pytest.raises(OSError, match="Input/output"):
                sink.write(classified(number=1))
        assert not path.read_bytes().endswith(b"\n")
        sink.write(classified(number=2))
    assert frames_of(path) == [0, 2]


@pytest.mark.parametrize("how", ["renamed", "removed", "folder removed"])
def test_a_file_that_somebody_takes_away_is_made_anew(tmp_path, how):
    path = tmp_path / "logs" / "out"
    sink = opened(path, "csv")
    sink.write(classified(number=0))
    if how == "renamed":
        path.rename(path.with_name("out.old"))
    else:
        path.unlink()
    if how == "folder removed":
        path.with_name(".out.lock").unlink()
        path.parent.rmdir()
        with pytest.raises(FileNotFoundError):
            sink.write(classified(number=1))
        path.parent.mkdir()
    sink.write(classified(number=2))
    sink.close()
    assert frames_of(path) == [2]
    assert how != "renamed" or frames_of(path.with_name("out.old")) == [0]


def test_a_jump_of_the_clock_changes_nothing(tmp_path, path, monkeypatch):
    clock_s = itertools.cycle([1e9, 2e9])
    monkeypatch.setattr(time, "time", lambda: next(clock_s))
    write(path, range(20), max_bytes=1000, keep=9)
    files = sorted(tmp_path.glob("out*"), key=lambda file: -int(file.name[4:] or 0))
    assert [number for file in files for number in frames_of(file)] == list(range(20))


def test_lines_reach_the_disk_every_few_seconds_and_at_the_end(path, monkeypatch):
    clock_s, synced = 100.0, []
    monkeypatch.setattr(time, "monotonic", lambda: clock_s)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    with opened(path) as sink:
        for number in range(100):
            sink.write(classified(number=number))
            clock_s += 0.1
        assert len(synced) == 1
    assert len(synced) == 2


def test_a_disk_that_fails_at_the_end_is_let_go_of(path, monkeypatch):
    sink = opened(path)
    sink.write(classified(number=0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            sink.close()
    write(path, range(1, 2))


WRITER = """
import sys
from pathlib import Path
from edge_runtime.sinks.files import FileSink
from support.results import classified
sink = FileSink(Path(sys.argv[1]), sys.argv[2], ["cat", "dog"], 2, max_bytes=20_000)
print("ready", flush=True)
number = 0
while True:
    sink.write(classified(number=number))
    number += 1
"""


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
def test_after_sigkill_in_mid_write_the_next_run_finds_whole_lines_and_no_lock(tmp_path, path, format_name):
    for _ in range(3):
        with killed_code(WRITER, path, format_name):
            time.sleep(0.1)
        write(path, range(7, 8), format_name)
        for file in tmp_path.glob("out*"):
            frames_of(file)
        assert frames_of(path)[-1] == 7


def test_a_run_that_is_not_live_hears_of_trouble(path):
    with open_file_sink(path, "jsonl", ["cat", "dog"], 2, live=False) as sink:
        path.unlink()
        path.mkdir()
        with pytest.raises(OSError, match="Is a directory"):
            sink.write(classified(number=0))


def test_unusable_settings_are_refused(path):
    with pytest.raises(ValueError, match="at least 1"):
        AppendedFile(path, keep=0)
    with pytest.raises(ValueError, match="expected jsonl or csv"):
        opened(path, "text")


@pytest.mark.parametrize("format_name", ["jsonl", "csv"])
@pytest.mark.parametrize("tail", ["half", "zeros", "header"])
def test_what_a_crash_left_of_the_last_line_is_cut(path, format_name, tail):
    write(path, range(3), format_name)
    data = path.read_bytes()
    path.write_bytes({"half": data[:-20], "zeros": data + bytes(200_000), "header": data[:7]}[tail])
    write(path, range(10, 12), format_name)
    assert frames_of(path) == {"half": [0, 1, 10, 11], "zeros": [0, 1, 2, 10, 11], "header": [10, 11]}[tail]


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
def test_a_file_with_other_content_is_left_alone(path, data, format_name):
    path.write_bytes(data)
    with pytest.raises(OutputError, match="something other than rows"):
        opened(path, format_name)
    assert path.read_bytes() == data
