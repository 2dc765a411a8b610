"""Kill every program at random moments and look at what it leaves: files, rows, processes, temporary folders."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.testing import write_tiny_bundle
from support.images import noisy_images, plain_image, write_image, write_video

_MARK = "EDGEKIT_FUZZ_KILL"
_DIES_WITHIN_S = 2.0


@dataclass
class Program:
    """One command line that is killed again and again.

    Attributes:
        name: Name in reports.
        arguments: Program and arguments; ``{out}`` is its output.
        typical_s: Seconds that it usually takes; kills come between 0 and this.
        weight: Share of the kills.
        whole: File inside the output folder that only a complete one has; empty if the output is a file of rows.
    """

    name: str
    arguments: list[str]
    typical_s: float
    weight: int
    whole: str = ""
    killed: int = field(default=0)


def kill_programs(count: int, seed: int, deadline: float, workers: int) -> tuple[int, list[str]]:
    """Kill programs ``count`` times or until the time ends; give the number of kills and a sentence for each fault."""
    if not count:
        return 0, []
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        programs = _programs(room)
        faults: list[str] = []
        jobs = iter(_jobs(programs, count, random.Random(seed)))
        lock, done = threading.Lock(), [0]

        def work(place: Path) -> None:
            while time.monotonic() < deadline:
                with lock:
                    job = next(jobs, None)
                if job is None:
                    return
                program, after_s = job
                found = _kill_once(program, after_s, place)
                with lock:
                    done[0] += 1
                    faults.extend(f"{program.name} killed after {after_s:.2f} s: {fault}" for fault in found)

        threads = [threading.Thread(target=work, args=(room / f"place{index}",)) for index in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index in range(workers):
            for program in programs:
                faults += [f"{program.name}, run again: {fault}" for fault in _finish(program, room / f"place{index}")]
            # ONNX Runtime leaves a file .ses of its own.
            left = [path.name for path in (room / f"place{index}" / "tmp").iterdir() if path.name != ".ses"]
            faults += [f"left in the temporary folder after the next run: {name}" for name in left]
        return done[0], faults


def _programs(room: Path) -> list[Program]:
    """Make data and models, and give the command lines."""
    photos, clip = room / "photos", room / "clip.avi"
    for index, value in enumerate((*range(0, 250, 2), *range(1, 250, 2))):
        write_image(photos / f"{index:03d}.jpg", plain_image(value, 200, 200))
    write_video(clip, noisy_images(60, 64))
    for channel, label in enumerate(("blue", "green", "red")):
        for index, image in enumerate(noisy_images(24, 40, channel) // 2):
            image[:, :, channel] += 100
            write_image(room / "set" / label / f"{index}.png", image)
    bundle = write_tiny_bundle(room / "bundle")
    quick = ["--recipe", "cnn-small", "--image-size", "32", "--epochs", "2", "--batch-size", "8"]
    train = Program(
        "run", ["edge-train", "run", "--data", str(room / "set"), "--out", "{out}", *quick], 0, 0, "model.keras"
    )
    if faults := _finish(train, room):
        raise RuntimeError(f"the training before the kills failed: {faults}")
    run = str(_out(train, room))
    rows = ["edge-run", "classify", str(bundle), str(photos)]
    return [
        Program("classify to JSONL", [*rows, "--output", "{out}.jsonl"], 1.0, 30),
        Program("classify to CSV", [*rows, "--output", "{out}.csv", "--skip-done"], 1.0, 30),
        Program(
            "camera", ["edge-run", "camera", str(bundle), "--source", str(clip), "--save-frames", "{out}"], 1.5, 20
        ),
        Program("doctor", ["edge-run", "doctor", str(bundle), "--json"], 2.0, 4),
        Program("data", ["edge-train", "data", str(room / "set"), "--out", "{out}"], 2.0, 6, "report.html"),
        Program(
            "train", ["edge-train", "run", "--data", str(room / "set"), "--out", "{out}", *quick], 9.0, 4, "model.keras"
        ),
        Program(
            "convert", ["edge-convert", "run", run, "--out", "{out}", "--max-drop", "100"], 15.0, 4, "manifest.json"
        ),
        Program(
            "bench",
            ["edge-bench", "run", str(bundle), "--data", str(room / "set"), "--quick", "--out", "{out}"],
            6.0,
            2,
            "report.json",
        ),
    ]


def _jobs(programs: list[Program], count: int, rng: random.Random) -> list[tuple[Program, float]]:
    chosen = rng.choices(programs, [program.weight for program in programs], k=count)
    return [(program, rng.uniform(0.0, 1.1 * program.typical_s)) for program in chosen]


def _out(program: Program, place: Path) -> Path:
    return place / "out" / program.name.replace(" ", "-")


def _command(program: Program, place: Path) -> list[str]:
    command = [argument.replace("{out}", str(_out(program, place))) for argument in program.arguments]
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def _environment(place: Path) -> dict[str, str]:
    for name in ("tmp", "cache", "out"):
        (place / name).mkdir(parents=True, exist_ok=True)
    return {**os.environ, "TMPDIR": str(place / "tmp"), "EDGEKIT_CACHE": str(place / "cache"), _MARK: str(place)}


def _kill_once(program: Program, after_s: float, place: Path) -> list[str]:
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(_command(program, place), env=_environment(place), cwd=place, **silent)
    try:
        child.wait(after_s)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
    limit = time.monotonic() + _DIES_WITHIN_S
    while alive := _alive(place):
        if time.monotonic() > limit:
            for pid in alive:
                os.kill(pid, signal.SIGKILL)
            return [f"{len(alive)} processes live after {_DIES_WITHIN_S:g} s", *_half_written(program, place)]
        time.sleep(0.05)
    faults = _half_written(program, place)
    if program.whole:
        shutil.rmtree(_out(program, place), ignore_errors=True)
    return faults


def _alive(place: Path) -> list[int]:
    mark, found = f"{_MARK}={place}\0".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _half_written(program: Program, place: Path) -> list[str]:
    out = _out(program, place)
    if program.whole:
        return [f"{out.name} without {program.whole}"] if out.exists() and not (out / program.whole).exists() else []
    faults = []
    for path in out.parent.glob(f"{out.name}.*"):
        try:
            if path.suffix == ".csv":
                rows = list(csv.DictReader(path.read_text().splitlines()))
                names = [row["source"] for row in rows]
            else:
                names = [json.loads(line)["source"] for line in path.read_text().splitlines()]
        except (ValueError, KeyError) as error:
            faults.append(f"{path.name}: a row is broken ({error!r})")
            continue
        if len(set(names)) != len(names):
            faults.append(f"{path.name}: a row is doubled")
    return faults


def _finish(program: Program, place: Path) -> list[str]:
    """Run to the end: the output is whole, and nothing of the killed runs is left."""
    done = subprocess.run(
        _command(program, place), env=_environment(place), cwd=place, capture_output=True, text=True, check=False
    )
    faults = _half_written(program, place)
    if done.returncode not in (0, 7) or "Traceback" in done.stderr:
        faults.append(f"exit code {done.returncode}: {done.stderr[-300:]}")
    out = _out(program, place)
    return faults + [f"left beside the output: {path.name}" for path in out.parent.glob(f".{out.name}*partial*")]
