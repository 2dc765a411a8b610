"""Contents of the peers report, its Markdown, and the pair of files that a report of a checkout consists of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import click

from benchmarks.machine import describe_machine
from benchmarks.peers.measuring import DAMAGED
from benchmarks.peers.plan import NotMeasured
from benchmarks.statistics import Ratio, Share, is_noisy
from edge_runtime.errors import shorten
from edge_runtime.platform.atomic import check_free, write_atomic
from edge_runtime.strict import to_mapping
from edge_runtime.workstation.reporting.wording import (
    ABSENT,
    markdown_table,
    megabytes,
    one_line,
    percent,
    percent_range,
    significant,
)

_UNITS = {"parameters": "million parameters", "gflops": "GFLOP an inference (two per multiply-add)"}
_REASON_CHARACTERS = 110
_STOPPED = "; then it answers no other image either: "
_SPECIAL = "&<>|`[]\\"

RowT = TypeVar("RowT")
Columns: TypeAlias = tuple[tuple[str, Callable[[RowT], str]], ...]
"""Columns of a table: the heading, and the function that writes a row's cell."""


@dataclass(frozen=True)
class PeerRow:
    """One tool with one model file. Times are medians over rounds of the median over images of a round."""

    name: Annotated[str, "Unique name of the row."]
    tool: Annotated[str, "Name of the tool, such as ``MediaPipe ImageClassifier``."]
    what: Annotated[str, "Model: a variant of the bundle, ``model.keras``, or the stated equivalent."]
    environment: Annotated[str, "Virtual environment of the tool; ``edgekit`` is our own."]
    runtime: Annotated[str, "Runtime and version."]
    threads: Annotated[str, "Threads inside one inference."]
    model_facts: Annotated[
        dict[str, float], "Facts about the model: ``parameters`` (millions), ``gflops`` (two per multiply-add)."
    ]
    answered: Annotated[int, "Number of images with an answer in every round."]
    pictures: Annotated[int, "Number of images that it was given."]
    is_same_model: Annotated[bool, "True if its answers can be right."]
    accuracy: Annotated[
        Share | None, "Share of right answers; an image without an answer is wrong. None for random weights."
    ]
    agreement: Annotated[
        Share | None,
        "Share of images with the answer of our row ``beside``; None for random weights and for our own rows.",
    ]
    is_steady: Annotated[bool, "True if it gave the same answers in every round."]
    total_ms: Annotated[float | None, "Time from file to label; None where nothing was answered."]
    inference_ms: Annotated[float | None, "Time of inference alone; None where the tool does not show it."]
    beside: Annotated[str, "Name of our row that it is compared with, or empty."]
    times_ours: Annotated[
        Ratio | None, "Ratio to ``beside`` of the time from file to label, paired by round; None for our own rows."
    ]
    inference_times_ours: Annotated[Ratio | None, "Ratio to ``beside`` of the time of inference alone, or None."]
    cpu_ms: Annotated[float, "Processor time an image."]
    cold_start_s: Annotated[float | None, "Time from before the process until its first answer."]
    peak_bytes: Annotated[int, "Largest resident memory."]
    pictures_per_s: Annotated[float, "Images divided by the seconds of the whole process, start and warm-up included."]
    refusals: Annotated[dict[str, int], "Number of images that were not answered, by reason."]
    awkward: Annotated[dict[str, str], "Outcome of each awkward file: ``answered``, or the reason why not."]


@dataclass(frozen=True)
class RunRecord:
    """Facts of the run that a report of a checkout comes from."""

    schema_version: Annotated[int, "Version of the report's form."]
    created_at: Annotated[str, "Time in UTC, ISO 8601."]
    command: Annotated[str, "Command line as typed."]
    machine: Annotated[Any, "`benchmarks.machine.MachineRecord` as a mapping."]
    load_before: Annotated[float, "Load average of the minute before."]
    load_after: Annotated[float, "Load average of the last minute."]
    not_measured: Annotated[tuple[NotMeasured, ...], "Rows that could not be measured, each with its reason."]

    def machine_line(self, middle: str) -> str:
        """Write the sentence on the processor and the load, with ``middle`` between the two."""
        found = self.machine if isinstance(self.machine, Mapping) else {}
        processor = plain(str(found.get("cpu_model", "unknown processor")))
        return f"{processor}, {middle}; load {self.load_before:.1f} before and {self.load_after:.1f} after."

    def origin_line(self) -> str:
        """Write the sentence on the command and its time."""
        return f"Made with {plain(self.command)} at {plain(self.created_at)}."


def run_facts(command: str, load_before: float, not_measured: Sequence[NotMeasured]) -> dict[str, Any]:
    """Collect the fields of `RunRecord` at the end of a run."""
    return {
        "schema_version": 1,
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "machine": to_mapping(describe_machine()),
        "load_before": load_before,
        "load_after": os.getloadavg()[0],
        "not_measured": tuple(not_measured),
    }


@dataclass(frozen=True)
class PeersReport(RunRecord):
    """Comparison of tools."""

    bundle: Annotated[str, "Path of the bundle as given by the user."]
    model_name: Annotated[str, "Name of the bundle's model."]
    labels: Annotated[int, "Number of labels."]
    input_size: Annotated[str, "Width by height, such as ``160x160``."]
    source: Annotated[str, "Origin of the images as given by the user."]
    part: Annotated[str, "Part of the source that was taken."]
    pictures: Annotated[int, "Number of images."]
    rounds: Annotated[int, "Number of fresh processes of each tool."]
    seed: Annotated[int, "Seed of the order and the drawn images."]
    rows: Annotated[tuple[PeerRow, ...], "Measured tools, ours first."]


def free_files(folder: Path, name: str, *, overwrite: bool) -> tuple[Path, Path]:
    """Name the JSON and Markdown file of a report; OutputError, before long work, where one must not be replaced."""
    files = folder / f"{name}.json", folder / f"{name}.md"
    for file in files:
        check_free(file, overwrite=overwrite)
    return files


def publish(files: tuple[Path, Path], record: RunRecord, text: str, *, overwrite: bool) -> None:
    """Write the record as JSON and the text as Markdown, and print the text.

    Raises:
        OutputError: A file exists and must not be replaced, or cannot be written.
    """
    data = json.dumps(to_mapping(record), indent=2, allow_nan=False) + "\n"
    for file, content in zip(files, (data, text), strict=True):
        write_atomic(file, content, overwrite=overwrite)
    click.echo(text)
    click.echo(f"report: {files[1]}")


def plain(text: str) -> str:
    """Escape text from outside to one line in which Markdown and HTML find no markup."""
    return "".join(f"&#{ord(char)};" if char in _SPECIAL else char for char in one_line(text))


def render(report: PeersReport) -> str:
    """Render two tables, the rows that were not measured, and the notes on how to read them."""
    cores = report.machine.get("cores_usable", "?") if isinstance(report.machine, Mapping) else "?"
    parts = [
        "# Beside other tools",
        f"{report.pictures} images ({plain(report.part)} of {plain(report.source)}), model {plain(report.model_name)}, "
        f"{report.labels} labels, input {report.input_size}; {report.rounds} rounds in random order, every tool in a "
        f"fresh process each time. {report.machine_line(f'{cores} cores')}",
        table(_SPEED, report.rows, text_columns=(0, 1)),
        table(_ANSWERS, report.rows, text_columns=(0, 1)),
        _list("Not measured", [f"{one.name}: {one.reason}" for one in report.not_measured]),
        _list("Notes", _notes(report.rows)),
        _list("Refused and failed", _failures(report.rows)),
        report.origin_line(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def is_right_refusal(outcome: str) -> bool:
    """Tell whether a damaged file was refused and the tool still works."""
    return outcome.startswith("refused") and _STOPPED not in outcome


def _figure(value: float | None) -> str:
    return ABSENT if value is None else significant(value)


def table(columns: Columns[RowT], rows: Sequence[RowT], *, text_columns: Sequence[int]) -> str:
    """Render a table of columns, each a heading and the function that writes a row's cell."""
    cells = ([write(row) for _, write in columns] for row in rows)
    return markdown_table([heading for heading, _ in columns], cells, text_columns=text_columns, shown=plain)


def share_text(share: Share | None, *, space: str = " ") -> str:
    """Write a share with its interval, such as ``85.5 % (80.0 to 89.7)``."""
    return f"{percent(share.fraction, space=space)} ({percent_range(share.low, share.high)})" if share else ABSENT


def ratio_text(ratio: Ratio | None, decimals: int = 2) -> str:
    """Write a ratio with its interval, such as ``1.35 (1.31 to 1.40)``."""
    if ratio is None:
        return ABSENT
    interval = ratio.interval
    span = f" ({interval.low:.{decimals}f} to {interval.high:.{decimals}f})" if interval else ""
    return f"{ratio.median:.{decimals}f}{span}"


def _answered(row: PeerRow) -> str:
    return f"{row.answered} of {row.pictures}" + ("" if row.is_steady else ", not the same each time")


def _awkward(row: PeerRow, expected: str, *, is_damaged: bool) -> str:
    outcomes = [outcome for what, outcome in row.awkward.items() if (what in DAMAGED) is is_damaged]
    return f"{sum(outcome.startswith(expected) for outcome in outcomes)} of {len(outcomes)}" if outcomes else ABSENT


_NAMES: Columns[PeerRow] = (("tool", lambda row: row.tool), ("model", lambda row: row.what))
_SPEED: Columns[PeerRow] = (
    *_NAMES,
    ("file to label, p50 ms", lambda row: _figure(row.total_ms)),
    ("times ours", lambda row: ratio_text(row.times_ours)),
    ("inference, p50 ms", lambda row: _figure(row.inference_ms)),
    ("times ours", lambda row: ratio_text(row.inference_times_ours)),
    ("processor an image, ms", lambda row: _figure(row.cpu_ms)),
    ("cold start", lambda row: ABSENT if row.cold_start_s is None else f"{row.cold_start_s:.2f} s"),
    ("peak memory", lambda row: megabytes(row.peak_bytes)),
    ("images/s, whole process", lambda row: _figure(row.pictures_per_s)),
)
_ANSWERS: Columns[PeerRow] = (
    *_NAMES,
    ("answered", _answered),
    ("right (95 %)", lambda row: share_text(row.accuracy)),
    ("as ours", lambda row: percent(row.agreement.fraction) if row.agreement else ABSENT),
    ("awkward files answered", lambda row: _awkward(row, "answered", is_damaged=False)),
    ("damaged files refused", lambda row: _awkward(row, "refused", is_damaged=True)),
)


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}\n", *(f"- {plain(line)}" for line in lines)]) if lines else ""


def _notes(rows: Sequence[PeerRow]) -> list[str]:
    notes = [
        "Times ours: ratio to the time of edgekit's Python interface with the same model file (the first of its files "
        "for tools that run none of them), paired by round; above 1 edgekit is faster. 95 % bootstrap interval over "
        "rounds.",
        "A tool that shows no inference time of its own has none here. Processor time counts all threads of the "
        "process; for edge-run classify it includes the start of the process.",
        "Images are prepared as in the guide of each tool: edgekit crops as the model's manifest says; the plain "
        "loops, MediaPipe and Keras stretch the whole image. So answers may differ.",
    ]
    for row in rows:
        facts = [f"{value:,.4g} {_UNITS.get(name, name)}" for name, value in row.model_facts.items() if value]
        notes += [f"{row.name}: {', '.join(facts)}."] if facts else []
    if any(not row.is_same_model for row in rows):
        notes.append("Models with random weights give no accuracy; their times are those of trained ones.")
    noisy = [row.name for row in rows if row.times_ours is not None and is_noisy(row.times_ours)]
    if noisy:
        notes.append(
            "Too noisy to be relied on, since by its interval another run may differ by more than 5 % or there are too "
            f"few rounds: {len(noisy)} of the ratios from file to label ({'; '.join(noisy)})."
        )
    threads = {row.tool: row.threads for row in rows}
    notes.append("Threads: " + "; ".join(f"{tool} {count}" for tool, count in threads.items()) + ".")
    notes.append("Versions: " + "; ".join(sorted({row.runtime for row in rows if row.runtime})) + ".")
    return notes


def _failures(rows: Sequence[PeerRow]) -> list[str]:
    """List whole images that were refused, damaged ones that were answered, and tools that stopped working."""
    lines = []
    for row in rows:
        for reason, count in row.refusals.items():
            lines.append(f"{row.name}: {count} of the {row.pictures} images: {_short(reason)}")
        for what, outcome in row.awkward.items():
            if outcome != "answered" if what not in DAMAGED else not is_right_refusal(outcome):
                lines.append(f"{row.name}: {what}: {_short(outcome)}")
    return lines


def _short(outcome: str) -> str:
    """Shorten each part of an outcome; the JSON has it whole."""
    return _STOPPED.join(shorten(part, _REASON_CHARACTERS) for part in outcome.split(_STOPPED))
