"""Body of ``edge-run classify``: walk, classify, write, and say how it went."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from edge_runtime.cli_support import Progress, note, progress_bar
from edge_runtime.commands.model_choice import ModelChoice
from edge_runtime.commands.output import Interrupts, output_stream, write_errors
from edge_runtime.cores import core_count
from edge_runtime.errors import DataError
from edge_runtime.results import Failed
from edge_runtime.sinks.opening import open_sink
from edge_runtime.sources.images import find_images

EXIT_DONE, EXIT_SOME_FAILED = 0, 1
_PROBLEMS_SHOWN = 3


@dataclass(frozen=True)
class ClassifyJob:
    """What ``edge-run classify`` was asked for, beside the model.

    Attributes:
        paths: Files and folders.
        top_k: Predictions for each picture.
        format: ``table``, ``jsonl`` or ``csv``.
        output: A file, or None for standard output.
        overwrite: Whether the file may exist.
        workers: Threads over pictures; 0 means one per core.
        threads: Threads inside one inference.
    """

    paths: Sequence[Path]
    top_k: int
    format: str
    output: Path | None
    overwrite: bool
    workers: int
    threads: int


def run_classify(choice: ModelChoice, job: ClassifyJob) -> int:
    """Classify, and give the exit code: 0, 1 where some inputs failed, 3 where none could be classified.

    Raises:
        DataError: No path leads to a picture.
        EdgeKitError: The model cannot be used, or the output cannot be written.
    """
    if job.output:
        from edge_runtime.atomic import check_free

        check_free(job.output, overwrite=job.overwrite)
    inputs = _with_a_picture(find_images(job.paths))

    from edge_runtime.pipeline.folder import classify_files

    open_classifier = choice.opener(job.threads)
    classifier = open_classifier()
    tally = _Tally()
    summary = job.format == "table" or job.output is not None
    with (
        Interrupts() as interrupts,
        output_stream(job.output, overwrite=job.overwrite, for_programs=job.format != "table") as stream,
        _progress(job) as advance,
    ):
        with write_errors():
            sink = open_sink(job.format, stream, classifier.labels, job.top_k, frames=False)
        workers = job.workers or core_count()
        results = classify_files(inputs, classifier, open_classifier, workers=workers, top_k=job.top_k)
        try:
            with contextlib.closing(results):
                for result in results:
                    with interrupts.held():
                        with write_errors():
                            sink.write(result)
                        tally.add(failed=isinstance(result, Failed))
                    advance(1)
        except KeyboardInterrupt:
            if summary:
                note(f"{tally}, interrupted")
            raise
    if summary:
        note(f"{job.output}: {tally}" if job.output else str(tally))
    return tally.exit_code


class _Tally:
    """Counts for the summary line and the exit code."""

    def __init__(self) -> None:
        self._done = self._failed = 0
        self._started_s = time.perf_counter()

    def add(self, *, failed: bool) -> None:
        self._done += 1
        self._failed += failed

    def __str__(self) -> str:
        seconds = time.perf_counter() - self._started_s
        rate = f" ({self._done / seconds:.0f}/s)" if self._done > 1 else ""
        pictures = f"{self._done} picture{'' if self._done == 1 else 's'}"
        duration = f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
        return f"{pictures} in {duration}{rate}" + (f", {self._failed} failed" if self._failed else "")

    @property
    def exit_code(self) -> int:
        if not self._failed:
            return EXIT_DONE
        return EXIT_SOME_FAILED if self._failed < self._done else DataError.exit_code


def _with_a_picture(inputs: Iterator[Path | Failed]) -> Iterator[Path | Failed]:
    """The same inputs, once it is sure that there is a picture among them.

    Raises:
        DataError: There is none.
    """
    problems: list[Failed] = []
    for item in inputs:
        if isinstance(item, Path):
            return chain(problems, [item], inputs)
        problems.append(item)
    shown = "; ".join(f"{problem.source}: {problem.message}" for problem in problems[:_PROBLEMS_SHOWN])
    more = len(problems) - _PROBLEMS_SHOWN
    raise DataError(shown + (f"; and {more} more" if more > 0 else ""))


@contextlib.contextmanager
def _progress(job: ClassifyJob) -> Iterator[Progress]:
    """A bar where rows do not scroll past on a terminal; counting for it costs a second walk."""
    if not sys.stderr.isatty() or (job.output is None and sys.stdout.isatty()):
        yield lambda _count: None
        return
    with progress_bar("classify", sum(1 for _ in find_images(job.paths))) as advance:
        yield advance
