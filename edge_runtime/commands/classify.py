"""Command ``edge-run classify``: find images, classify them, write rows and a summary."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.cli_support import note
from edge_runtime.commands.model_choice import ModelChoice
from edge_runtime.commands.output import Interrupts, output_stream, write_errors
from edge_runtime.errors import DataError, UsageError
from edge_runtime.platform.board import core_count
from edge_runtime.platform.process import collect_as_usual
from edge_runtime.results import Failed, Result
from edge_runtime.sinks.rows import open_sink
from edge_runtime.sources.images import find_images

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.progress import Progress
    from edge_runtime.sinks.base import Sink
    from edge_runtime.sources.images import PathList
    from edge_runtime.sources.watch import FolderWatch


_STANDARD_INPUT = "-"
_PROBLEMS_SHOWN, _MOST_PROBLEMS = 3, 1000
_COUNTING_S = 0.5


@dataclass(frozen=True)
class InputChoice:
    """What the command line says about the images.

    Attributes:
        paths: Files, folders, patterns, and ``-`` for a list on standard input.
        list_file: A list of paths, or None; ``-`` is standard input.
        null: Whether the paths of lists end with a NUL byte.
        watch: Whether to wait for new files in the folders that ``paths`` are.
        only_new: Whether, when watching, what is there already is left out.
    """

    paths: Sequence[str]
    list_file: str | None = None
    null: bool = False
    watch: bool = False
    only_new: bool = False


class Inputs:
    """Images as they are found. Iterate over it once; `close` ends that, also where it waits.

    Raises:
        UsageError: Options that do not go together.
        DataError: A list cannot be opened.
        MissingExtraError: Watching needs a package that is not installed.
    """

    def __init__(self, choice: InputChoice) -> None:
        self._choice = choice
        self._list: PathList | None = None
        self.watch: FolderWatch | None = None
        self._check(choice)
        name = _STANDARD_INPUT if _STANDARD_INPUT in choice.paths else choice.list_file
        if choice.watch:
            from edge_runtime.sources.watch import FolderWatch

            self.watch = FolderWatch([Path(path) for path in choice.paths], only_new=choice.only_new)
        elif name is not None:
            from edge_runtime.sources.images import PathList

            self._list = PathList(name, null=choice.null)

    def __iter__(self) -> Iterator[Path | Failed]:
        """Yield images, and a `Failed` for what leads to none."""
        if self.watch:
            return iter(self.watch)
        given = find_images((Path(path) for path in self._choice.paths if path != _STANDARD_INPUT), patterns=True)
        return chain(given, self._listed())

    def _listed(self) -> Iterator[Path | Failed]:
        for item in self._list or ():
            if isinstance(item, Failed):
                yield item
            else:
                yield from find_images([item])

    def close(self) -> None:
        """End the iteration. May be called from a signal handler, and again."""
        if self.watch:
            self.watch.close()
        if self._list:
            self._list.close()

    def stop(self) -> bool:
        """Close, and say whether that is a good end: what is watched has no other, and what is in work is written."""
        self.close()
        return self.watch is not None

    def count(self) -> int:
        """How many images there are, where that is quickly told; else 0."""
        if self.watch or self._list:
            return 0
        until_s = time.monotonic() + _COUNTING_S
        count = 0
        for _ in find_images((Path(path) for path in self._choice.paths), patterns=True):
            count += 1
            if time.monotonic() > until_s:
                return 0
        return count

    @staticmethod
    def _check(choice: InputChoice) -> None:
        if not choice.paths and choice.list_file is None:
            raise UsageError("expected PATH... or --list FILE, which say what to classify, got neither")
        if choice.null and choice.list_file is None and _STANDARD_INPUT not in choice.paths:
            raise UsageError("--null: goes with --list FILE or the path -, whose paths end with NUL bytes")
        if _STANDARD_INPUT in choice.paths and choice.list_file is not None:
            raise UsageError("--list: the path - is a list on standard input already; give one of the two")
        if choice.watch and (choice.list_file is not None or _STANDARD_INPUT in choice.paths):
            raise UsageError("--watch: expected folders, got a list")
        if choice.only_new and not choice.watch:
            raise UsageError("--only-new: goes with --watch")


def with_a_image(inputs: Iterator[Path | Failed]) -> Iterator[Path | Failed]:
    """The same inputs, once it is sure that there is an image among the first of them.

    Raises:
        DataError: There is none.
    """
    problems: list[Failed] = []
    for item in inputs:
        if isinstance(item, Path) or len(problems) == _MOST_PROBLEMS:
            return chain(problems, [item], inputs)
        problems.append(item)
    shown = "; ".join(f"{problem.source}: {problem.message}" for problem in problems[:_PROBLEMS_SHOWN])
    more = len(problems) - _PROBLEMS_SHOWN
    raise DataError((shown or "the list holds no paths") + (f"; and {more} more" if more > 0 else ""))


@contextlib.contextmanager
def opened(choice: InputChoice) -> Iterator[Inputs]:
    """Open inputs, and at the end close them and end the threads that listen."""
    inputs = Inputs(choice)
    try:
        yield inputs
    finally:
        inputs.close()
        if inputs.watch:
            inputs.watch.stop()


def unseen(inputs: Iterator[Path | Failed], is_new: Callable[[str], bool]) -> Iterator[Path | Failed]:
    """The inputs whose name is new."""
    for item in inputs:
        if is_new(item.source if isinstance(item, Failed) else str(item)):
            yield item


EXIT_DONE, EXIT_SOME_FAILED = 0, 1


@dataclass(frozen=True)
class ClassifyJob:
    """What ``edge-run classify`` was asked for, beside the model.

    Attributes:
        inputs: Which images.
        top_k: Predictions for each image.
        format: ``table``, ``jsonl`` or ``csv``.
        output: A file, or None for standard output.
        overwrite: Whether the file may exist.
        skip_done: Whether images with a row in the file are left out, and rows are appended as they come.
        retry_failed: Whether images whose row is an error are not left out.
        workers: Threads over images; 0 means one per core.
        threads: Threads inside one inference.
    """

    inputs: InputChoice
    top_k: int
    format: str
    output: Path | None
    overwrite: bool
    skip_done: bool
    retry_failed: bool
    workers: int
    threads: int

    @property
    def appends(self) -> bool:
        """Whether rows reach the file as they come: when resuming, and when watching, which has no end."""
        return self.output is not None and (self.skip_done or self.inputs.watch)


def run_classify(choice: ModelChoice, job: ClassifyJob) -> int:
    """Classify, and give the exit code: 0, 1 where some inputs failed, 3 where none could be classified.

    Raises:
        UsageError: Options that do not go together.
        DataError: No path leads to an image.
        OutputError: The output cannot be written, or another program writes to it.
        EdgeKitError: The model cannot be used.
    """
    _check(job)
    if job.output and not job.skip_done:
        from edge_runtime.platform.atomic import check_free

        check_free(job.output, overwrite=job.overwrite)
    with opened(job.inputs) as inputs:
        found = iter(inputs) if inputs.watch else with_a_image(iter(inputs))
        open_classifier = choice.opener(job.threads)
        with Interrupts(inputs.stop) as interrupts, contextlib.ExitStack() as stack:
            classifier = open_classifier()
            stack.callback(classifier.close)
            sink = _open_output(job, classifier, stack)
            tally = Tally()
            if job.output and job.skip_done:
                from edge_runtime.commands.resume import new_source_filter

                is_new = new_source_filter(job.output, job.format, retry_failed=job.retry_failed, on_skip=tally.skip)
                found = unseen(found, is_new)
            if inputs.watch and inputs.watch.problem:
                note(inputs.watch.problem)

            from edge_runtime.pipeline.folder import classify_files

            workers = job.workers or core_count()
            results = classify_files(found, classifier, open_classifier, workers=workers, top_k=job.top_k)
            # Closed in this order: the inputs, so that no worker waits for one, and then the workers.
            stack.callback(results.close)
            stack.callback(inputs.close)
            advance = stack.enter_context(_progress(job, inputs))
            collect_as_usual()
            _write_all(results, sink, tally, advance, interrupts, job)
        if job.output or job.format == "table" or inputs.watch:
            note(_summary(tally, job, stopped=interrupts.stopped))
    return tally.exit_code


class Tally:
    """Counts for the summary line and the exit code."""

    def __init__(self) -> None:
        self._done = self._failed = self._skipped = 0
        self._started_s = time.perf_counter()

    def add(self, *, failed: bool) -> None:
        """Count a result."""
        self._done += 1
        self._failed += failed

    def skip(self) -> None:
        """Count an image that was done before."""
        self._skipped += 1

    def __str__(self) -> str:
        seconds = time.perf_counter() - self._started_s
        per_second = self._done / seconds
        rate = f" ({per_second:.{0 if per_second >= 10 else 1}f}/s)" if self._done > 1 else ""
        images = f"{self._done} image{'' if self._done == 1 else 's'}"
        duration = f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"
        failed = f", {self._failed} failed" if self._failed else ""
        skipped = f", {self._skipped} done before" if self._skipped else ""
        return f"{images} in {duration}{rate}{failed}{skipped}"

    @property
    def exit_code(self) -> int:
        """0, 1 where some failed, 3 where all did."""
        if not self._failed:
            return EXIT_DONE
        return EXIT_SOME_FAILED if self._failed < self._done + self._skipped else DataError.exit_code


def _check(job: ClassifyJob) -> None:
    if job.skip_done and job.output is None:
        raise UsageError("--skip-done: goes with --output FILE, whose rows say what is done")
    if job.skip_done and job.overwrite:
        raise UsageError("--skip-done: continues the file that --overwrite would replace; give one of the two")
    if job.retry_failed and not job.skip_done:
        raise UsageError("--retry-failed: goes with --skip-done")
    if job.appends and job.format == "table":
        option = "--skip-done" if job.skip_done else "--watch"
        raise UsageError(f"{option}: expected an --output of --format jsonl or csv, got a table")
    if job.inputs.watch and job.overwrite:
        raise UsageError("--watch: rows are appended as they come, so there is no --overwrite; choose another name")


def _open_output(job: ClassifyJob, classifier: Classifier, stack: contextlib.ExitStack) -> Sink:
    if job.output and job.appends:
        from edge_runtime.sinks.files import FileSink

        appended = FileSink(job.output, job.format, classifier.labels, job.top_k, frames=False)
        stack.callback(_close_file, appended)
        return appended
    stream = stack.enter_context(output_stream(job.output, overwrite=job.overwrite, for_programs=job.format != "table"))
    with write_errors():
        sink = open_sink(job.format, stream, classifier.labels, job.top_k, frames=False)
    stack.callback(sink.close)
    return sink


def _close_file(file: Sink) -> None:
    with write_errors():
        file.close()


def _write_all(
    results: Iterator[Result], sink: Sink, tally: Tally, advance: Progress, interrupts: Interrupts, job: ClassifyJob
) -> None:
    try:
        for result in results:
            with interrupts.held():
                with write_errors():
                    sink.write(result)
                tally.add(failed=isinstance(result, Failed))
            advance(1)
    except KeyboardInterrupt:
        if job.output or job.format == "table":
            note(f"{tally}, interrupted")
        raise


def _summary(tally: Tally, job: ClassifyJob, *, stopped: bool) -> str:
    where = f"{job.output}: " if job.output else ""
    return f"{where}{tally}{', stopped' if stopped else ''}"


@contextlib.contextmanager
def _progress(job: ClassifyJob, inputs: Inputs) -> Iterator[Progress]:
    """A bar where rows do not scroll past on a terminal."""
    if not sys.stderr.isatty() or (job.output is None and sys.stdout.isatty()):
        yield lambda _count: None
        return
    from edge_runtime.progress import rate_bar

    with rate_bar("classify", inputs.count()) as advance:
        yield advance
