"""Whether ``edge-bench`` slows down what it measures: its p50 of ``invoke`` beside a bare loop around the interpreter.

    python -m benchmarks.studies.harness_overhead MODEL.tflite PHOTOS [--processes 6] [--rounds 25]

Both sides run in fresh processes of their own, several pairs of them, because where a process happens to lie in memory
moves its speed by a percent or two. In each round both answer once in an order drawn by chance, and the ratio of their
medians is taken round by round. The bare loop (``overhead_child.py`` beside this file) times ``set_tensor``, ``invoke``
and ``get_tensor`` of LiteRT; single stream includes dequantising besides. Needed: a median ratio of ``invoke`` within
2 % of 1.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.measuring.protocol import AskBurst, AskStages, Burst, StageTimes
from benchmarks.measuring.session import Session
from benchmarks.plan import ARTIFACT_MODULE, SubjectPlan
from edge_runtime.errors import EdgeKitError
from edge_runtime.model.bundle import find_model
from edge_runtime.preprocess import load_prepared

_BARE_MODULE = "benchmarks.studies.overhead_child"
_SIDES = {"bare": _BARE_MODULE, "harness": ARTIFACT_MODULE}
_NAMES = {"invoke": "stage `invoke`, after decoding", "stream": "single stream"}
_IMAGES = 40
_ALLOWED = 0.02
_TIMEOUT_S = 120.0


@dataclass
class Seen:
    """Medians in ms, round by round, of one question.

    Attributes:
        bare: Of the bare loop.
        harness: Of the harness.
    """

    bare: list[float] = field(default_factory=list)
    harness: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """How many times as long the harness takes, in ascending order."""
        return sorted(own / bare for own, bare in zip(self.harness, self.bare, strict=True))


def compare(model: Path, images: Path, paths: Path, processes: int, rounds: int) -> dict[str, Seen]:
    """Ask both sides in turn.

    Args:
        model: The ``.tflite`` file.
        images: ``.npy`` file of prepared images, uint8 [N, H, W, 3] RGB.
        paths: Text file with an image file a line.
        processes: Pairs of fresh processes.
        rounds: Rounds of each pair.
    """
    seen = {name: Seen() for name in _NAMES}
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
                    for name, median_ms in _ask(sessions[side], images, paths).items():
                        getattr(seen[name], side).append(median_ms)
        finally:
            for session in sessions.values():
                session.close()
    return seen


def render(seen: Mapping[str, Seen]) -> str:
    """The Markdown table."""
    lines = [
        "| | bare loop, p50 | edge-bench, p50 | ratio (middle half) | rounds |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, one in seen.items():
        ratios = one.ratios()
        quarter = len(ratios) // 4
        ratio = f"{statistics.median(ratios):.3f} ({ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f})"
        medians = " | ".join(f"{statistics.median(side):.3f} ms" for side in (one.bare, one.harness))
        lines.append(f"| {_NAMES[name]} | {medians} | {ratio} | {len(ratios)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure, print the table, and give 0 where the harness is within what is allowed."""
    parser = argparse.ArgumentParser(description="edge-bench's p50 of invoke beside a bare loop around LiteRT.")
    parser.add_argument("model", type=Path, help="a .tflite file that carries its manifest")
    parser.add_argument("photos", type=Path, help="a folder of JPEGs, also in folders")
    parser.add_argument("--processes", type=int, default=6, help="pairs of fresh processes")
    parser.add_argument("--rounds", type=int, default=25, help="rounds of each pair")
    asked = parser.parse_args(arguments)
    model = asked.model.resolve()
    photos = sorted(path.resolve() for path in asked.photos.rglob("*.jpg"))
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
            seen = compare(model, images, paths, asked.processes, asked.rounds)
    except EdgeKitError as error:
        sys.exit(f"error: {error}")
    print(render(seen))
    return 0 if abs(statistics.median(seen["invoke"].ratios()) - 1) <= _ALLOWED else 1


def _ask(session: Session, images: Path, paths: Path) -> dict[str, float]:
    stream = session.ask(AskBurst(str(images), 0.03, 0.1, 50), Burst)
    stages = session.ask(AskStages(str(paths), _IMAGES), StageTimes)
    timed = {"invoke": stages.invoke_ns, "stream": stream.latencies_ns}
    return {name: statistics.median(values_ns) / 1e6 for name, values_ns in timed.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
