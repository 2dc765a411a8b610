"""Read every file of a set once and audit it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.cores import core_count
from edge_runtime.datasets.samples import Dataset, Sample
from train.intake.audit import Audit, audit
from train.intake.facts import Facts, examine
from train.intake.split import LeftOut


@dataclass(frozen=True)
class Audited:
    """A set and what was found.

    Attributes:
        dataset: The set as it was listed.
        facts: SHA-256 to facts, of every file that could be opened.
        audit: The verdict.
    """

    dataset: Dataset
    facts: dict[str, Facts]
    audit: Audit

    def short_name(self, path: Path) -> str:
        """A path within the set, without the folder that all files share."""
        return os.path.relpath(path, self._root()) if self.dataset.samples else str(path)

    def _root(self) -> str:
        paths = [sample.path for sample in self.dataset.samples] + list(self.dataset.ignored)
        folders = {str(path.parent) for path in paths}
        root = os.path.commonpath(folders)
        # The class is worth showing even where all files of a set lie in one folder.
        return root if len(folders) > 1 else str(Path(root).parent)


def audit_files(dataset: Dataset, progress: Callable[[int], None] | None = None) -> Audited:
    """Hash and decode every picture, in parallel, keeping only the facts.

    Args:
        dataset: What to read.
        progress: Called with 1 after each file.
    """
    samples, found = dataset.samples, _examine_all(dataset.samples, progress)
    unread = [LeftOut(sample, entry.problem) for sample, entry in zip(samples, found, strict=True) if not entry.sha256]
    hashed = [
        replace(sample, sha256=entry.sha256) for sample, entry in zip(samples, found, strict=True) if entry.sha256
    ]
    facts = {entry.sha256: entry for entry in found if entry.sha256}
    return Audited(dataset, facts, audit(dataset, hashed, facts, unread))


def _examine_all(samples: Sequence[Sample], progress: Callable[[int], None] | None) -> list[Facts]:
    def examine_one(sample: Sample) -> Facts:
        # The full picture goes at once: a set may be far larger than memory.
        return examine(sample.path)[0]

    found: list[Facts] = []
    with ThreadPoolExecutor(core_count()) as pool:
        try:
            for entry in pool.map(examine_one, samples):
                found.append(entry)
                if progress:
                    progress(1)
        except BaseException:
            # On Ctrl-C do not go on with all the files that are still in the queue.
            pool.shutdown(cancel_futures=True)
            raise
    return found
