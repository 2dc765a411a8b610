"""Hand thousands of damaged files to edgekit, then kill its programs at random moments: ``make fuzz``.

A fault is a crash of the main process, an exception that is no EdgeKitError, more than 500 MB, more than 10 seconds,
or anything half written or left behind after a kill. Files that caused one are kept in a folder that is printed.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import random
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "lib")]

from tests.fuzz import mutation  # noqa: E402 - needs the path above
from tests.fuzz.kills import kill_programs  # noqa: E402

MOST_MB, MOST_S, DEADLINE_S = 500, 10.0, 100.0
# An ONNX or TFLite file that passes the structural check runs in the sandbox, a process of its own; that takes 0.3 s.
SHARES = {"image": 0.5, "manifest": 0.2, "zip": 0.12, "tflite": 0.12, "onnx": 0.06}
SUFFIXES = {"image": ".jpg", "manifest": ".json", "zip": ".zip", "tflite": ".tflite", "onnx": ".onnx"}


class Target:
    """The process that reads the files; it is started again after a crash."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.fuzz.target"]
        environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'lib'}"}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env={**__import__("os").environ, **environment}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def ask(self, kind: str, path: Path) -> dict[str, Any] | str:
        """Give the answer for one file, or a sentence about the end of the process."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return "no pipes"
        print(json.dumps({"kind": kind, "path": str(path)}), file=stdin, flush=True)
        if not select.select([stdout], [], [], DEADLINE_S)[0]:
            self.close()
            return f"no answer in {DEADLINE_S:g} s"
        line = stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        return f"the process ended with code {self._process.wait()}"

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def cases(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield kind and content of each case, all kinds mixed, the same for a seed."""
    rng = random.Random(seed)
    streams = {}
    for kind, share in SHARES.items():
        if kind == "manifest":
            streams[kind] = mutation.json_mutants(mutation.manifest_seeds(), round(count * share), rng)
            continue
        seeds = {"image": mutation.image_seeds, "zip": mutation.zip_seeds}.get(
            kind, lambda kind=kind: mutation.model_seeds(f".{kind}")
        )()
        streams[kind] = mutation.mutants(seeds, round(count * share), rng)
    while streams:
        kind = rng.choices(list(streams), [SHARES[kind] for kind in streams])[0]
        content = next(streams[kind], None)
        if content is None:
            del streams[kind]
        else:
            yield kind, content


class Tally:
    """Counts of outcomes, and the faults."""

    def __init__(self, kept: Path) -> None:
        self.kept, self.counts = kept, collections.Counter[tuple[str, str]]()
        self.peak_mb, self.slowest_s, self.faults = 0, 0.0, list[str]()

    def add(self, kind: str, path: Path, answer: dict[str, Any] | str) -> None:
        """Count one answer, and keep the file if it is a fault."""
        fault = answer if isinstance(answer, str) else ""
        if isinstance(answer, dict):
            self.peak_mb = max(self.peak_mb, answer["peak_mb"])
            # A model that never ends is stopped by the sandbox, whose deadline is a minute.
            is_model = kind in ("tflite", "onnx")
            self.slowest_s = max(self.slowest_s, answer["seconds"])
            if answer["outcome"] not in ("accepted", "refused"):
                fault = answer["outcome"]
            elif answer["peak_mb"] > MOST_MB:
                fault = f"{answer['peak_mb']} MB"
            elif answer["seconds"] > MOST_S and not is_model:
                fault = f"{answer['seconds']:.1f} s"
            self.counts[kind, answer["outcome"] if not fault else "fault"] += 1
        if fault:
            name = hashlib.sha256(path.read_bytes()).hexdigest()[:12] + path.suffix
            (self.kept / name).write_bytes(path.read_bytes())
            self.faults.append(f"{kind} {name}: {fault}")
            print(self.faults[-1], flush=True)


def fuzz(count: int, seed: int, deadline: float, tally: Tally, workers: int) -> int:
    """Hand the cases to ``workers`` processes until they or the time end; give the number handed over."""
    stream, lock, done = cases(count, seed), threading.Lock(), collections.Counter[str]()

    def work(folder: Path) -> None:
        target = Target()
        while time.monotonic() < deadline:
            with lock:
                case = next(stream, None)
            if case is None:
                break
            kind, content = case
            path = folder / ("manifest.json" if kind == "manifest" else f"case{SUFFIXES[kind]}")
            path.write_bytes(content)
            answer = target.ask(kind, path)
            with lock:
                tally.add(kind, path, answer)
                done["cases"] += 1
            if isinstance(answer, str):
                target.close()
                target = Target()
        target.close()

    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / str(index) for index in range(workers)]
        threads = [threading.Thread(target=work, args=(folder,)) for folder in folders]
        for folder, thread in zip(folders, threads, strict=True):
            folder.mkdir()
            thread.start()
        for thread in threads:
            thread.join()
    return done["cases"]


def main() -> int:
    """Run both parts and print what was found; 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", type=int, default=20_000, help="damaged files")
    parser.add_argument("--kills", type=int, default=500, help="killed programs")
    parser.add_argument("--minutes", type=float, default=15, help="time for both parts")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    began = time.monotonic()
    tally = Tally(Path(tempfile.mkdtemp(prefix="edgekit-faults-")))
    total_s = chosen.minutes * 60
    handed = fuzz(chosen.files, chosen.seed, began + (0.55 if chosen.kills else 1) * total_s, tally, chosen.workers)
    for (kind, outcome), number in sorted(tally.counts.items()):
        print(f"{kind:10} {outcome:10} {number:7,}")
    print(f"{handed:,} of {chosen.files:,} files in {time.monotonic() - began:.0f} s; at most {tally.peak_mb} MB")
    killed, faults = kill_programs(chosen.kills, chosen.seed, began + total_s, chosen.workers)
    print(f"{killed} of {chosen.kills} kills; {time.monotonic() - began:.0f} s in all, seed {chosen.seed}")
    for fault in (*tally.faults, *faults):
        print(f"FAULT {fault}")
    if tally.faults:
        print(f"files of the faults: {tally.kept}")
    else:
        tally.kept.rmdir()
    return 1 if tally.faults or faults else 0


if __name__ == "__main__":
    sys.exit(main())
