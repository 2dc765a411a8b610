"""Command ``edge-run classify``: find images, classify them, write rows and a summary."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.cli_support import note, output_stream, write_errors
from edge_runtime.commands.options import STANDARD_INPUT, ClassifyJob, ModelChoice
from edge_runtime.errors import DataError
from edge_runtime.platform.process import Interrupts, collect_as_usual, core_count
from edge_runtime.results import Failed, Result
from edge_runtime.sinks.rows import open_sink
from edge_runtime.sources.images import PathList, find_images

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier
    from edge_runtime.progress import Progress
    from edge_runtime.sinks.base import Sink
    from edge_runtime.sources.watch import FolderWatch

_EXIT_SOME_FAILED = 1
_PROBLEMS_SHOWN, _MOST_PROBLEMS = 3, 1000
_COUNTING_S = 0.5


def run_classify(choice: ModelChoice, job: ClassifyJob) -> int:
    """Classify images and return the exit code: 0, 1 if some inputs failed, 3 if none could be classified.

    Raises:
        UsageError: Options that do not go together.
        DataError: No path leads to an image.
        OutputError: The output cannot be written, or another program writes to it.
        EdgeKitError: The model cannot be used.
    """
    job.check()
    if job.output and not job.skip_done:
        from edge_runtime.platform.atomic import check_free

        check_free(job.output, overwrite=job.overwrite)
    with Inputs(job) as inputs:
        found = iter(inputs) if inputs.watch else _require_image(iter(inputs))
        open_classifier = choice.opener(job.threads)
        with Interrupts(inputs.stop) as interrupts, contextlib.ExitStack() as stack:
            classifier = open_classifier()
            stack.callback(classifier.close)
            sink = _open_output(job, classifier, stack)
            tally = Tally()
            if job.output and job.skip_done:
                found = _without_done(found, job.output, job, tally)
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
            where = f"{job.output}: " if job.output else ""
            note(f"{where}{tally}{', stopped' if interrupts.stopped else ''}")
    return tally.exit_code


class Inputs:
    """Iterator over the images that the command line names, as they are found; iterate once.

    Args:
        job: Options that `ClassifyJob.check` has passed.

    Attributes:
        watch: Watch over folders, or None.

    Raises:
        DataError: A list cannot be opened.
        MissingExtraError: Watching needs a package that is not installed.
    """

    def __init__(self, job: ClassifyJob) -> None:
        self._paths = [Path(path) for path in job.paths if path != STANDARD_INPUT]
        self._list: PathList | None = None
        self.watch: FolderWatch | None = None
        name = STANDARD_INPUT if STANDARD_INPUT in job.paths else job.list_file
        if job.watch:
            from edge_runtime.sources.watch import FolderWatch

            self.watch = FolderWatch(self._paths, only_new=job.only_new)
        elif name is not None:
            self._list = PathList(name, null=job.null)

    def __iter__(self) -> Iterator[Path | Failed]:
        """Yield images, and a `Failed` for each path without one."""
        if self.watch:
            return iter(self.watch)
        return chain(find_images(self._paths, patterns=True), self._listed())

    def _listed(self) -> Iterator[Path | Failed]:
        for item in self._list or ():
            if isinstance(item, Failed):
                yield item
            else:
                yield from find_images([item])

    def count(self) -> int:
        """Count the images; 0 where that is unknown or takes more than half a second."""
        if self.watch or self._list:
            return 0
        until_s = time.monotonic() + _COUNTING_S
        count = 0
        for _ in find_images(self._paths, patterns=True):
            count += 1
            if time.monotonic() > until_s:
                return 0
        return count

    def close(self) -> None:
        """End the iteration, also one that waits. May be called again, and from a signal handler."""
        if self.watch:
            self.watch.close()
        if self._list:
            self._list.close()

    def stop(self) -> bool:
        """Close, and return True if that is the normal end: a watch has no other, and images in work are finished."""
        self.close()
        return self.watch is not None

    def __enter__(self) -> Inputs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.watch:
            self.watch.stop()


def _require_image(inputs: Iterator[Path | Failed]) -> Iterator[Path | Failed]:
    """Return the same inputs, or raise DataError if there is no image among the first of them."""
    problems: list[Failed] = []
    for item in inputs:
        if isinstance(item, Path) or len(problems) == _MOST_PROBLEMS:
            return chain(problems, [item], inputs)
        problems.append(item)
    shown = "; ".join(f"{problem.source}: {problem.message}" for problem in problems[:_PROBLEMS_SHOWN])
    more = len(problems) - _PROBLEMS_SHOWN
    raise DataError((shown or "the list holds no paths") + (f"; and {more} more" if more > 0 else ""))


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
        """0, 1 if some failed, 3 if all did."""
        if not self._failed:
            return 0
        return _EXIT_SOME_FAILED if self._failed < self._done + self._skipped else DataError.exit_code


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


def _without_done(
    inputs: Iterator[Path | Failed], output: Path, job: ClassifyJob, tally: Tally
) -> Iterator[Path | Failed]:
    """Leave out inputs that have a row, and count them."""
    from edge_runtime.commands.resume import new_source_filter

    is_new = new_source_filter(output, job.format, retry_failed=job.retry_failed, on_skip=tally.skip)
    return (item for item in inputs if is_new(item.source if isinstance(item, Failed) else str(item)))


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


@contextlib.contextmanager
def _progress(job: ClassifyJob, inputs: Inputs) -> Iterator[Callable[[int], None]]:
    """Show a bar unless rows scroll past on the same terminal."""
    if not sys.stderr.isatty() or (job.output is None and sys.stdout.isatty()):
        yield lambda _count: None
        return
    from edge_runtime.progress import rate_bar

    with rate_bar("classify", inputs.count()) as advance:
        yield advance
