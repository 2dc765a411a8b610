"""Body of ``edge-bench overview``: one page that lists training runs, bundles and benchmark reports.

It reads their JSON files strictly and nothing else. A folder that cannot be read is a row that says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from benchmarks.records import PAGE_FILE, REPORT_FILE, Report, check_file, read_report
from benchmarks.report.tables import TOO_FEW, is_undecided
from edge_runtime.contract import MANIFEST_FILE, MAX_MANIFEST_BYTES, Manifest
from edge_runtime.errors import DataError, EdgeKitError, OutputError
from edge_runtime.platform.atomic import write_atomic
from edge_runtime.workstation.reporting.pages import render_html
from edge_runtime.workstation.reporting.wording import (
    ABSENT,
    counted,
    megabytes,
    one_line,
    percent,
    signed,
    significant,
)

MARK = '<meta name="generator" content="edge-bench overview">'
_MARK_WITHIN_BYTES = 4096
_CONVERSION_PAGE, _COMPARISON_PAGE = "conversion.html", "compare.html"
_MODEL_FILE = "model.keras"
_UNFINISHED = ".training"


@dataclass(frozen=True)
class Cell:
    """Text of a cell, its sort key if that is a number, a small text, an address to link to, and a doubt."""

    text: str
    key: float | None = None
    small: str = ""
    href: str = ""
    doubt: str = ""


NOTHING = Cell("")


@dataclass(frozen=True)
class Entry:
    """One row: its table, its time as POSIX seconds, and its cells."""

    table: str
    time_s: float
    cells: tuple[Cell, ...]


RUNS, BUNDLES, BENCHMARKS, COMPARISONS = "Training runs", "Bundles", "Benchmarks", "Comparisons"
UNFINISHED = "Unfinished trainings"
_HEADERS = {
    RUNS: ("run", "test accuracy", "validation accuracy", "size", "date", "images", "labels", "recipe"),
    BUNDLES: ("bundle", "best accuracy", "change, points", "smallest file", "date", "variants", "labels", "model"),
    BENCHMARKS: ("report", "pick", "accuracy", "p50, ms", "size", "date", "images", "machine", "model"),
    COMPARISONS: ("comparison", "date"),
    UNFINISHED: ("run", "state", "date"),
}
_TEXT_COLUMNS = {"state", "recipe", "model", "machine", "pick"}


@dataclass(frozen=True)
class Overview:
    """Rows by table, newest first, and the folders that cannot be read, each with the reason."""

    entries: tuple[Entry, ...]
    broken: tuple[tuple[str, str], ...]

    def summary(self) -> str:
        """Count the rows, such as ``2 training runs, 1 bundle``."""
        nouns = dict(
            zip(_HEADERS, ("training run", "bundle", "benchmark", "comparison", "unfinished training"), strict=True)
        )
        counts = {table: sum(entry.table == table for entry in self.entries) for table in nouns}
        shown = [counted(count, nouns[table]) for table, count in counts.items() if count]
        return ", ".join([*shown, *([f"{counted(len(self.broken), 'folder')} not readable"] if self.broken else [])])


def collect(folders: Sequence[Path], page_folder: Path) -> Overview:
    """Read the folders inside each folder, or a folder itself if it holds a run, bundle or report.

    Args:
        folders: Folders to look into; one that does not exist is left out.
        page_folder: Folder of the page, from which the links start.

    Raises:
        DataError: There is nothing in any of them.
    """
    entries: list[Entry] = []
    broken: list[tuple[str, str]] = []
    for folder in dict.fromkeys(found for outer in folders for found in _candidates(outer, broken)):
        try:
            entries.append(_entry(folder, page_folder))
        except EdgeKitError as error:
            broken.append((str(folder), one_line(str(error))))
        except OSError as error:
            broken.append((str(folder), f"cannot be read ({error.strerror})"))
    if not entries and not broken:
        raise DataError(
            f"expected training runs, bundles or reports in {', '.join(map(str, folders))}, found none; make one with "
            "edge-train run, or name the folders that hold them"
        )
    return Overview(tuple(sorted(entries, key=lambda entry: -entry.time_s)), tuple(broken))


def _candidates(folder: Path, broken: list[tuple[str, str]]) -> Iterator[Path]:
    """List the folders to read; hidden ones, such as those of a program at work, are left out."""
    try:
        if not folder.exists():
            return
        if any((folder / name).exists() for name in (MANIFEST_FILE, REPORT_FILE)):
            yield folder
            return
        yield from sorted(inner for inner in folder.iterdir() if inner.is_dir() and not inner.name.startswith("."))
    except OSError as error:
        broken.append((str(folder), f"expected a folder ({error.strerror})"))


def _entry(folder: Path, page_folder: Path) -> Entry:
    """Read one folder, recognised by its JSON file."""
    link = _linker(folder, page_folder)
    if (folder / REPORT_FILE).exists():
        return _benchmark(folder, read_report(folder), link)
    if (folder / MANIFEST_FILE).exists():
        manifest = _manifest(folder / MANIFEST_FILE)
        return (_bundle if manifest.artifacts else _run)(folder, manifest, link)
    if (folder / _COMPARISON_PAGE).exists():
        time_s = (folder / _COMPARISON_PAGE).stat().st_mtime
        return Entry(COMPARISONS, time_s, (link(_COMPARISON_PAGE), _date(time_s)))
    if folder.name.endswith(_UNFINISHED):
        time_s, name = folder.stat().st_mtime, one_line(folder.name.removesuffix(_UNFINISHED))
        state = "still running, or interrupted: continue it with its command and --resume"
        return Entry(UNFINISHED, time_s, (Cell(name), Cell(state), _date(time_s)))
    raise DataError(f"expected {MANIFEST_FILE}, {REPORT_FILE} or {_COMPARISON_PAGE}, found none of them")


def _linker(folder: Path, page_folder: Path) -> Callable[[str], Cell]:
    """Make the first cell of a row: the folder's name, linked to one of its pages if that is there."""

    def link(page: str) -> Cell:
        path = folder / page
        relative = os.path.relpath(path.resolve(), page_folder.resolve())
        return Cell(one_line(folder.name), href=quote(os.fsencode(relative)) if path.is_file() else "")

    return link


def _manifest(path: Path) -> Manifest:
    check_file(path, MAX_MANIFEST_BYTES, "a manifest")
    return Manifest.from_json(path.read_bytes(), str(path))


def _run(folder: Path, manifest: Manifest, link: Callable[[str], Cell]) -> Entry:
    time_s, training = (folder / MANIFEST_FILE).stat().st_mtime, manifest.training
    model = folder / _MODEL_FILE
    metrics, images = (training.metrics, sum(training.images_per_split.values())) if training else ({}, None)
    cells = (
        link(PAGE_FILE),
        _share(metrics.get("test_accuracy")),
        _share(metrics.get("validation_accuracy")),
        _size(model.stat().st_size) if model.is_file() else NOTHING,
        _date(time_s),
        NOTHING if images is None else _count(images),
        _count(len(manifest.labels)),
        Cell(one_line(training.recipe) if training else ""),
    )
    return Entry(RUNS, time_s, cells)


def _bundle(folder: Path, manifest: Manifest, link: Callable[[str], Cell]) -> Entry:
    time_s = (folder / MANIFEST_FILE).stat().st_mtime
    checked = [(artifact, artifact.check) for artifact in manifest.artifacts if artifact.check]
    smallest = min(manifest.artifacts, key=lambda artifact: artifact.bytes)
    accuracy = change = NOTHING
    if checked:
        best, check = max(checked, key=lambda pair: (pair[1].accuracy, -pair[0].bytes))
        points = 100 * (check.accuracy - check.keras_accuracy)
        accuracy = Cell(percent(check.accuracy), check.accuracy, best.variant.value)
        change = Cell(signed(points), points, f"{counted(check.images, 'image')}")
    cells = (
        link(_CONVERSION_PAGE),
        accuracy,
        change,
        Cell(megabytes(smallest.bytes), smallest.bytes, smallest.variant.value),
        _date(time_s),
        _count(len(manifest.artifacts)),
        _count(len(manifest.labels)),
        Cell(manifest.model_name),
    )
    return Entry(BUNDLES, time_s, cells)


def _benchmark(folder: Path, report: Report, link: Callable[[str], Cell]) -> Entry:
    time_s = _time_s(report.created_utc, folder / REPORT_FILE)
    pick = next((pair for pair in report.measured() if pair[0].name == report.verdict.variant), None)
    figures: tuple[Cell, ...] = (Cell("none"), NOTHING, NOTHING, NOTHING)
    if pick is not None:
        subject, measured = pick
        p50_ms = measured.single_stream.latency.p50_ms
        doubt = TOO_FEW if is_undecided(measured) else ""
        share = measured.accuracy.top1.fraction
        figures = (
            Cell(subject.name, doubt="not to be quoted" if report.invalid else ""),
            Cell(percent(share), share, doubt=doubt),
            Cell(significant(p50_ms), p50_ms),
            _size(subject.bytes),
        )
    where = Cell(one_line(report.machine.cpu_model))
    cells = (link(PAGE_FILE), *figures, _date(time_s), _count(report.data.images), where, Cell(report.model_name))
    return Entry(BENCHMARKS, time_s, cells)


def _time_s(created_utc: str, path: Path) -> float:
    try:
        return datetime.fromisoformat(created_utc).timestamp()
    except (ValueError, OverflowError):
        return path.stat().st_mtime


def _date(time_s: float) -> Cell:
    return Cell(f"{datetime.fromtimestamp(time_s, timezone.utc):%Y-%m-%d %H:%M}")


def _share(fraction: float | None) -> Cell:
    return NOTHING if fraction is None else Cell(percent(fraction), fraction)


def _size(count: int) -> Cell:
    return Cell(megabytes(count), count)


def _count(count: int) -> Cell:
    return Cell(f"{count:,}", count)


def render_overview(overview: Overview) -> str:
    """Render the page; names and texts come from users, so the template escapes everything."""
    tables = [
        (title, header, [entry.cells for entry in overview.entries if entry.table == title])
        for title, header in _HEADERS.items()
    ]
    values = {
        "tables": [table for table in tables if table[2]],
        "broken": overview.broken,
        "summary": overview.summary(),
        "text_columns": _TEXT_COLUMNS,
        "absent": ABSENT,
    }
    return render_html("benchmarks.report", "overview.html", values)


def write_overview(folders: Sequence[Path], out: Path, *, overwrite: bool) -> Overview:
    """Write the page; an earlier overview at its place is replaced, another file only if asked.

    Raises:
        DataError: There is nothing to show.
        OutputError: Something else is at ``out``, or it cannot be written.
    """
    if out.is_dir():
        raise OutputError(f"{out}: expected the path of the page to write, such as {out / 'index.html'}, got a folder")
    if out.exists() and not overwrite and not _is_overview(out):
        raise OutputError(f"{out}: exists and is no overview; use --overwrite to replace it, or another --out")
    overview = collect(folders, out.parent)
    page = render_overview(overview)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out.parent}: cannot be made ({error.strerror})") from error
    write_atomic(out, page)
    return overview


def _is_overview(path: Path) -> bool:
    try:
        check_file(path, 1 << 30, "a page")
        with path.open("rb") as file:
            return MARK.encode() in file.read(_MARK_WITHIN_BYTES)
    except (EdgeKitError, OSError):
        return False
