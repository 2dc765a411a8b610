"""A killed writer leaves the old one or the new one, never half."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile

import pytest

from edge_runtime.errors import OutputError
from edge_runtime.platform.atomic import atomic_directory, atomic_file, temporary_folder, write_atomic
from support.programs import run_code

MARKER = "manifest.json"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_directory_appears_whole(tmp_path):
    target = tmp_path / "deep" / "run"
    with atomic_directory(target, marker=MARKER) as folder:
        (folder / MARKER).write_text("1")
        assert not target.exists()
    assert names(target) == [MARKER]
    assert names(target.parent) == ["run"]


def test_a_failure_leaves_nothing(tmp_path):
    def fail_in(target):
        with target as path:
            (path / MARKER if path.is_dir() else path).write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in(atomic_directory(tmp_path / "run", marker=MARKER))
    with pytest.raises(RuntimeError):
        fail_in(atomic_file(tmp_path / "file"))
    assert names(tmp_path) == []


def test_nothing_is_replaced_unless_asked(tmp_path):
    for content in ("old", "new"):
        with atomic_directory(tmp_path / "run", marker=MARKER, overwrite=content == "new") as folder:
            (folder / MARKER).write_text(content)
    assert (tmp_path / "run" / MARKER).read_text() == "new"
    assert names(tmp_path) == ["run"]
    with pytest.raises(OutputError, match="already exists"), atomic_directory(tmp_path / "run", marker=MARKER):
        pass
    with pytest.raises(OutputError, match="already exists"), atomic_file(tmp_path / "run" / MARKER):
        pass


def test_a_folder_of_another_kind_is_never_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=MARKER), atomic_directory(tmp_path / "home", marker=MARKER, overwrite=True):
        pass
    assert names(tmp_path / "home") == ["letter.txt"]


def test_a_place_that_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "below", "x")


@pytest.mark.parametrize("kind", ["directory", "replacement"])
def test_a_killed_process_leaves_the_old_or_nothing_and_the_next_one_cleans_up(tmp_path, kind):
    target = tmp_path / "run"
    if kind == "replacement":
        with atomic_directory(target, marker=MARKER) as folder:
            (folder / MARKER).write_text("old")
    code = (
        "import sys, time, pathlib; from edge_runtime.platform.atomic import atomic_directory\n"
        "with atomic_directory(pathlib.Path(sys.argv[1]), marker='manifest.json', overwrite=True) as folder:\n"
        "    (folder / 'manifest.json').write_text('new'); print('writing', flush=True); time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "writing\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    if kind == "replacement":
        assert (target / MARKER).read_text() == "old"
    else:
        assert not target.exists()
    assert len(list(tmp_path.glob(".run.partial-*"))) == 1
    with atomic_directory(target, marker=MARKER, overwrite=True) as folder:
        (folder / MARKER).write_text("newer")
    assert names(tmp_path) == ["run"]


def test_what_a_killed_process_left_of_a_file_is_removed_by_the_next_one(tmp_path):
    code = (
        "import os, sys, pathlib; from edge_runtime.platform.atomic import atomic_file\n"
        "with atomic_file(pathlib.Path(sys.argv[1])) as file:\n"
        "    file.write_text('half'); os._exit(9)\n"
    )
    assert run_code(code, tmp_path / "rows.csv", check=False).returncode == 9
    assert [path.name.startswith(".rows.csv.partial-") for path in tmp_path.iterdir()] == [True]
    write_atomic(tmp_path / "rows.csv", "whole")
    assert names(tmp_path) == ["rows.csv"]


def write_file_twice(path):
    with atomic_file(path) as first:
        first.write_text("first")
        write_atomic(path, "second", overwrite=False)
        assert first.read_text() == "first"


def write_directory_twice(path):
    with atomic_directory(path, marker=MARKER) as first:
        (first / MARKER).write_text("first")
        with atomic_directory(path, marker=MARKER) as second:
            (second / MARKER).write_text("second")
        assert (first / MARKER).read_text() == "first"  # a living writer is left alone


@pytest.mark.parametrize("has_renameat2", [True, False])
def test_of_two_writers_of_a_new_name_the_slower_fails(tmp_path, monkeypatch, has_renameat2):
    if not has_renameat2:
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    for write, name in ((write_file_twice, "rows"), (write_directory_twice, "run")):
        with pytest.raises(OutputError, match=f"{name}: was made by another process meanwhile"):
            write(tmp_path / name)
    assert (tmp_path / "rows").read_text() == (tmp_path / "run" / MARKER).read_text() == "second"
    assert names(tmp_path) == ["rows", "run"]


def test_the_next_process_removes_the_temporary_folders_of_killed_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed = "import os; from edge_runtime.platform.atomic import temporary_folder\n"
    killed += "with temporary_folder('x') as folder: (folder / 'deep').mkdir(); os.kill(os.getpid(), 9)"
    run_code(killed, check=False)
    (left,) = tmp_path.iterdir()
    (tmp_path / "edgekit-elsewhere").touch()
    with temporary_folder("a") as first, temporary_folder("b") as second:
        assert not left.exists()
        assert first.is_dir()
        assert second.is_dir()
    assert names(tmp_path) == ["edgekit-elsewhere"]


def test_the_leftover_of_a_killed_process_whose_id_was_given_to_another_is_removed(tmp_path):
    with atomic_file(tmp_path / "rows", overwrite=True) as first:
        (own,) = tmp_path.iterdir()
        before, identity, after = re.split(r"(?<=-)(\d+\.\d+)(?=-)", own.name)
        pid, _, start = identity.partition(".")
        reused = tmp_path / f"{before}{pid}.{int(start) - 1}{after}"
        reused.touch()
        write_atomic(tmp_path / "rows", "whole")
        assert (own.exists(), reused.exists()) == (True, False)
        first.write_text("new")
