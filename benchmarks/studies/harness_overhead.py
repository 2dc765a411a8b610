"""Overhead of ``edge-bench``: its p50 of ``invoke`` beside a bare loop around the interpreter.

    python -m benchmarks.studies.harness_overhead MODEL.tflite PHOTOS [--processes 6] [--rounds 25]

Both sides run in fresh processes of their own, several pairs of them, because the place of a process in memory moves
its speed by a percent or two. In each round both run once in seeded random order, and the ratio of their medians is
taken round by round. The bare loop (``overhead_child.py`` beside this file) times ``set_tensor``, ``invoke``
and ``get_tensor`` of LiteRT; single stream includes dequantising besides. Required: a median ratio of ``invoke`` within
2 % of 1.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TypeAlias

import numpy as np

from benchmarks.measuring.protocol import AskBurst, AskStages, Burst, StageTimes
from benchmarks.measuring.session import Session
from benchmarks.plan import ARTIFACT_MODULE, SubjectPlan
from benchmarks.studies.common import with_middle_half
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import find_model
from edge_runtime.preprocess import load_prepared
from edge_runtime.workstation.reporting.wording import markdown_table

_SIDES = {"bare": "benchmarks.studies.overhead_child", "harness": ARTIFACT_MODULE}
_NAMES = {"invoke": "stage `invoke`, after decoding", "stream": "single stream"}
_IMAGES = 40
_ALLOWED = 0.02
_HEADER = ("", "bare loop, p50", "edge-bench, p50", "ratio (middle half)", "rounds")
_TIMEOUT_S = 120.0

Seen: TypeAlias = dict[str, dict[str, list[float]]]
"""Medians in ms by kind of request and side, round by round."""


def compare(model: Path, images: Path, paths: Path, processes: int, rounds: int) -> Seen:
    """Measure both sides in turn.

    Args:
        model: The ``.tflite`` file.
        images: ``.npy`` file of prepared images, uint8 [N, H, W, 3] RGB.
        paths: Text file with an image file a line.
        processes: Number of pairs of fresh processes.
        rounds: Number of rounds of each pair.
    """
    seen: Seen = {name: {side: [] for side in _SIDES} for name in _NAMES}
    chance = random.Random(0)  # noqa: S311 - an order, not a secret
    image = Path(paths.read_text(encoding="utf-8", errors="surrogateescape").split("\n")[0])
    for _ in range(processes):
        sessions: dict[str, Session] = {}
        try:
            for side in chance.sample(list(_SIDES), 2):
                plan = SubjectPlan(side, _SIDES[side], model, model, 0, "")
                sessions[side] = Session(plan, threads=1, image=image, folder=images.parent, timeout_s=_TIMEOUT_S)
            for _ in range(rounds):
                for side in chance.sample(list(_SIDES), 2):
                    for name, median_ms in _measure_once(sessions[side], images, paths).items():
                        seen[name][side].append(median_ms)
        finally:
            for session in sessions.values():
                session.close()
    return seen


def ratios(medians_ms: dict[str, list[float]]) -> list[float]:
    """Divide the harness by the bare loop, round by round."""
    return [own / bare for own, bare in zip(medians_ms["harness"], medians_ms["bare"], strict=True)]


def render(seen: Seen) -> str:
    """Render the Markdown table."""
    rows = []
    for name, one in seen.items():
        bare, harness = (f"{statistics.median(one[side]):.3f} ms" for side in _SIDES)
        rows.append((_NAMES[name], bare, harness, with_middle_half(ratios(one), 3), str(len(one["bare"]))))
    return markdown_table(_HEADER, rows, shown=str)


def main() -> int:
    """Measure, print the table, and return 0 where the overhead is within what is allowed, else 1."""
    parser = argparse.ArgumentParser(description="Measure edge-bench's p50 of invoke beside a bare loop around LiteRT.")
    parser.add_argument("model", type=Path, help="a .tflite file that carries its manifest")
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, also in folders")
    parser.add_argument("--processes", type=int, default=6, help="pairs of fresh processes")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each pair")
    arguments = parser.parse_args()
    model = arguments.model.resolve()
    photos = sorted(path.resolve() for path in arguments.photos.rglob("*.jpg"))
    try:
        spec = find_model(model).input_spec
        if spec is None or not photos:
            sys.exit("expected a model with a manifest and a folder with JPEGs; export the model with edge-convert run")
        chosen = photos[:: max(1, len(photos) // _IMAGES)][:_IMAGES]
        with tempfile.TemporaryDirectory(prefix="harness-overhead-") as name:
            images, paths = Path(name) / "images.npy", Path(name) / "paths.txt"
            np.save(images, np.stack([load_prepared(photo, spec) for photo in chosen]))
            lines = "".join(f"{photo}\n" for photo in chosen)
            paths.write_text(lines, encoding="utf-8", errors="surrogateescape")
            seen = compare(model, images, paths, arguments.processes, arguments.rounds)
    except EdgeKitError as error:
        sys.exit(f"error: {error}")
    print(render(seen))
    return 0 if abs(statistics.median(ratios(seen["invoke"])) - 1) <= _ALLOWED else 1


def _measure_once(session: Session, images: Path, paths: Path) -> dict[str, float]:
    stream = session.ask(AskBurst(str(images), 0.03, 0.1, 50), Burst)
    stages = session.ask(AskStages(str(paths), _IMAGES), StageTimes)
    timed = {"invoke": stages.invoke_ns, "stream": stream.latencies_ns}
    return {name: statistics.median(values_ns) / 1e6 for name, values_ns in timed.items()}


if __name__ == "__main__":
    sys.exit(main())
