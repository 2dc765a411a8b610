"""Folders that are watched: each image once, as soon as it is whole, and never half of one."""

import errno
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.errors import MissingExtraError, SourceError, UsageError
from edge_runtime.sources import watch
from edge_runtime.sources.watch import FolderWatch, is_being_written
from support.images import encode, plain_image
from support.waiting import wait_until

pytest.importorskip("watchdog", reason="the extra watch is not installed")
DEADLINE_S = 60
PICTURE = encode(plain_image((20, 20, 200), 20, 30), ".png")


class Taken:
    """What a watch gives, taken in a thread."""

    def __init__(self, folder_watch):
        self.watch = folder_watch
        self._items = queue.Queue()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            for item in self.watch:
                self._items.put(item)
        except SourceError as error:
            self._items.put(error)

    def next(self):
        return self._items.get(timeout=DEADLINE_S)

    def check_landing(self, path):
        path.write_bytes(PICTURE)
        assert self.next() == path

    def rest(self):
        self.watch.stop()
        self.thread.join(DEADLINE_S)
        assert not self.thread.is_alive()
        return list(self._items.queue)


@pytest.fixture
def take():
    started = []

    def start(*folders, **options):
        started.append(Taken(FolderWatch(folders, **options)))
        return started[-1]

    yield start
    for taken in started:
        taken.rest()


def limit_reached(*_):
    raise OSError(errno.ENOSPC, "inotify watch limit reached")


def test_what_is_there_comes_first_and_then_what_lands(tmp_path, take):
    (tmp_path / "old.png").write_bytes(PICTURE)
    taken = take(tmp_path)
    assert taken.next() == tmp_path / "old.png"
    taken.check_landing(tmp_path / "new.png")
    (tmp_path / "old.png").write_bytes(PICTURE + b"more")
    assert taken.next() == tmp_path / "old.png"
    assert taken.rest() == []


def test_only_new_leaves_out_what_is_there(tmp_path, take):
    (tmp_path / "old.png").write_bytes(PICTURE)
    taken = take(tmp_path, only_new=True)
    time.sleep(0.2)
    taken.check_landing(tmp_path / "new.png")
    assert taken.rest() == []


@pytest.mark.parametrize("polling", [False, True])
def test_a_file_comes_when_it_is_closed_and_not_before(tmp_path, take, monkeypatch, polling):
    monkeypatch.setattr(watch, "POLL_EVERY_S", 0.1)
    taken = take(tmp_path, observe=limit_reached) if polling else take(tmp_path)
    assert (taken.watch.problem is not None) == polling
    with (tmp_path / "slow.png").open("wb") as slow:
        slow.write(PICTURE[:50])
        slow.flush()
        time.sleep(0.5)
        taken.check_landing(tmp_path / "quick.png")
        slow.write(PICTURE[50:])
    assert taken.next() == tmp_path / "slow.png"
    assert taken.rest() == []


def test_moved_in_and_renamed_files_come_under_their_new_name(tmp_path, tmp_path_factory, take):
    taken = take(tmp_path)
    time.sleep(0.2)
    outside = tmp_path_factory.mktemp("outside") / "moved.png"
    outside.write_bytes(PICTURE)
    outside.rename(tmp_path / "moved.png")
    assert taken.next() == tmp_path / "moved.png"
    for temporary in (".hidden.png", "download.png.part", "upload.tmp"):
        (tmp_path / temporary).write_bytes(PICTURE)
        (tmp_path / temporary).rename(tmp_path / f"{temporary.strip('.')[:3]}.png")
        assert taken.next() == tmp_path / f"{temporary.strip('.')[:3]}.png"
    assert taken.rest() == []


def test_hidden_temporary_empty_and_other_files_are_ignored(tmp_path, take):
    (tmp_path / ".git").mkdir()
    taken = take(tmp_path)
    for name in (".a.png", "a.png~", "a.png.crdownload", ".git/a.png", "notes.txt"):
        (tmp_path / name).write_bytes(PICTURE)
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    taken.check_landing(tmp_path / "last.png")
    assert taken.rest() == []


def test_new_folders_are_watched_with_all_that_is_in_them(tmp_path, tmp_path_factory, take):
    taken = take(tmp_path)
    time.sleep(0.2)
    for round_ in range(5):
        # Written at once: some of it is there before the new folder is watched.
        folder = tmp_path / f"day{round_}" / "hour"
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(PICTURE)
    assert {taken.next() for _ in range(5)} == {tmp_path / f"day{round_}" / "hour" / "a.png" for round_ in range(5)}
    outside = tmp_path_factory.mktemp("outside") / "card"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "b.png").write_bytes(PICTURE)
    shutil.move(outside, tmp_path / "card")
    assert taken.next() == tmp_path / "card" / "deep" / "b.png"
    taken.check_landing(tmp_path / "card" / "deep" / "c.png")
    assert taken.rest() == []


def test_lost_events_are_found_by_looking(tmp_path, take, monkeypatch):
    monkeypatch.setattr(watch, "MAX_WAITING", 0)
    taken = take(tmp_path)
    taken.check_landing(tmp_path / "a.png")
    assert taken.rest() == []


def test_where_the_kernel_cannot_say_a_file_must_stay_unchanged(tmp_path, take, monkeypatch):
    monkeypatch.setattr(watch, "POLL_EVERY_S", 0.1)
    monkeypatch.setattr(watch, "SETTLE_S", 2.0)
    monkeypatch.setattr(watch, "is_being_written", lambda _path: None)
    (tmp_path / "a.png").write_bytes(PICTURE)
    started_s = time.monotonic()
    taken = take(tmp_path, observe=limit_reached)
    assert taken.next() == tmp_path / "a.png"
    assert time.monotonic() - started_s >= 2.0


def test_the_kernel_knows_who_writes(tmp_path):
    path = tmp_path / "a.png"
    with path.open("wb"):
        if is_being_written(path) is None:
            pytest.skip("this file system grants no leases")
        assert is_being_written(path) is True
    assert is_being_written(path) is False
    assert is_being_written(tmp_path / "none") is None


def test_a_folder_that_vanishes_ends_it_with_one_sentence(tmp_path, take, monkeypatch):
    monkeypatch.setattr(watch, "POLL_EVERY_S", 0.1)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(PICTURE)
    taken = take(tmp_path / "in")
    assert taken.next() == tmp_path / "in" / "a.png"
    shutil.rmtree(tmp_path / "in")
    error = taken.next()
    assert isinstance(error, SourceError)
    assert "no longer there" in str(error)


def test_only_folders_can_be_watched_and_the_extra_is_named(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="expected a folder to watch"):
        FolderWatch([tmp_path / "none"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"edgekit\[watch\]"):
        FolderWatch([tmp_path])


@pytest.mark.parametrize("workers", ["1", "3"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_classifies_what_lands_and_ends_well(tiny_bundle, tmp_path, number, workers):
    folder, output = tmp_path / "in", tmp_path / "rows.jsonl"
    folder.mkdir()
    (folder / "old.png").write_bytes(PICTURE)
    arguments = ["classify", tiny_bundle, folder, "--watch", "--workers", workers, "--output", output]
    command = [sys.executable, "-m", "edge_runtime.cli", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for count in range(1, 4):
            wait_until(lambda count=count: output.exists() and output.read_text().count("\n") == count)
            (folder / f"{count}.png").write_bytes(PICTURE if count != 2 else b"no image")
        wait_until(lambda: output.read_text().count("\n") == 4)
        process.send_signal(number)
        _, err = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 1
    assert err.startswith(f"{output}: 4 images in ")
    assert err.endswith("), 1 failed, stopped\n")
    records = [json.loads(line) for line in output.read_text().splitlines()]
    assert [Path(record["source"]).name for record in records] == ["old.png", "1.png", "2.png", "3.png"]
    assert [record.get("label") for record in records] == ["red", "red", None, "red"]
