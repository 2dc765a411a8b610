"""What all subjects of a benchmark are measured under: settings, pictures, scratch folder, and one order by chance."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation import EvaluationSet
from benchmarks.measuring.entrant import Entrant
from benchmarks.measuring.session import Session
from benchmarks.plan import SubjectPlan
from benchmarks.settings import Settings


class Conditions:
    """The same for every subject.

    Args:
        settings: How they are measured.
        pictures: What they are measured on.
        folder: Scratch folder; answers are written there.

    Attributes:
        settings: As given.
        images: The ``.npy`` file of the prepared pictures.
        paths: Text file with the path of each picture file, one a line; see `EvaluationSet`.
        count: Number of pictures.
        folder: As given.
    """

    def __init__(self, settings: Settings, pictures: EvaluationSet, folder: Path) -> None:
        self.settings, self.folder, self.count = settings, folder.resolve(), len(pictures.samples)
        self.images, self.paths = str(pictures.images.resolve()), str(pictures.paths_file.resolve())
        self._first = pictures.samples[0].path
        self._random = random.Random(settings.seed)  # noqa: S311 - an order, not a secret

    def open(self, plan: SubjectPlan, threads: int | None = None) -> Session:
        """Start a fresh process; see `Session`. Without ``threads`` it takes those of the settings."""
        return Session(
            plan,
            threads=threads or self.settings.threads,
            picture=self._first,
            folder=self.folder,
            timeout_s=self.settings.timeout_s,
        )

    def shuffled(self, entrants: Sequence[Entrant]) -> list[Entrant]:
        """Them in an order drawn by chance, another at each call, the same for the same seed."""
        return self._random.sample(list(entrants), len(entrants))

    def shuffled_counts(self, counts: Sequence[int]) -> list[int]:
        """The same for thread counts."""
        return self._random.sample(list(counts), len(counts))
