"""Contents of the peers report, its Markdown, and the pair of files that a report of a checkout consists of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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

SCHEMA_VERSION = 1
JSON_FILE, MARKDOWN_FILE = "peers.json", "peers.md"
_UNITS = {"parameters": "million parameters", "gflops": "GFLOP an inference (two per multiply-add)"}
_REASON_CHARACTERS = 110
_STOPPED = "; then it answers no other image either: "
_SPECIAL = "&<>|`[]\\"
_SPEED = (
    "tool",
    "model",
    "file to label, p50 ms",
    "times ours",
    "inference, p50 ms",
    "times ours",
    "processor an image, ms",
    "cold start",
    "peak memory",
    "images/s, whole process",
)
_ANSWERS = ("tool", "model", "answered", "right (95 %)", "as ours", "awkward files answered", "damaged files refused")


@dataclass(frozen=True)
class PeerRow:
    """One tool with one model file. Times are medians over rounds of the median over images of a round.

    Attributes:
        name: Unique name of the row.
        tool: Name of the tool, such as ``MediaPipe ImageClassifier``.
        what: Model: a variant of the bundle, ``model.keras``, or the stated equivalent.
        environment: Virtual environment of the tool; ``edgekit`` is our own.
        runtime: Runtime and version.
        threads: Threads inside one inference.
        model_facts: Facts about the model: ``parameters`` (millions), ``gflops`` (two per multiply-add).
        answered: Number of images with an answer in every round.
        pictures: Number of images that it was given.
        is_same_model: True if its answers can be right.
        accuracy: Share of right answers; an image without an answer is wrong. None for random weights.
        agreement: Share of images with the answer of our row ``beside``; None for random weights and for our own rows.
        is_steady: True if it gave the same answers in every round.
        total_ms: Time from file to label; None where nothing was answered.
        inference_ms: Time of inference alone; None where the tool does not show it.
        beside: Name of our row that it is compared with, or empty.
        times_ours: Ratio to ``beside`` of the time from file to label, paired by round; None for our own rows.
        inference_times_ours: Ratio to ``beside`` of the time of inference alone, or None.
        cpu_ms: Processor time an image.
        cold_start_s: Time from before the process until its first answer.
        peak_bytes: Largest resident memory.
        pictures_per_s: Images divided by the seconds of the whole process, start and warm-up included.
        refusals: Number of images that were not answered, by reason.
        awkward: Outcome of each awkward file: ``answered``, or the reason why not.
    """

    name: str
    tool: str
    what: str
    environment: str
    runtime: str
    threads: str
    model_facts: dict[str, float]
    answered: int
    pictures: int
    is_same_model: bool
    accuracy: Share | None
    agreement: Share | None
    is_steady: bool
    total_ms: float | None
    inference_ms: float | None
    beside: str
    times_ours: Ratio | None
    inference_times_ours: Ratio | None
    cpu_ms: float
    cold_start_s: float | None
    peak_bytes: int
    pictures_per_s: float
    refusals: dict[str, int]
    awkward: dict[str, str]


@dataclass(frozen=True)
class PeersReport:
    """Comparison of tools.

    Attributes:
        schema_version: Version of this form, `SCHEMA_VERSION`.
        created_at: Time in UTC, ISO 8601.
        command: Command line as typed.
        machine: `benchmarks.machine.MachineRecord` as a mapping.
        bundle: Path of the bundle as given by the user.
        model_name: Name of the bundle's model.
        labels: Number of labels.
        input_size: Width by height, such as ``160x160``.
        source: Origin of the images as given by the user.
        part: Part of the source that was taken.
        pictures: Number of images.
        rounds: Number of fresh processes of each tool.
        seed: Seed of the order and the drawn images.
        load_before: Load average of the minute before.
        load_after: Load average of the last minute.
        rows: Measured tools, ours first.
        not_measured: Rows that could not be measured, each with its reason.
    """

    schema_version: int
    created_at: str
    command: str
    machine: Any
    bundle: str
    model_name: str
    labels: int
    input_size: str
    source: str
    part: str
    pictures: int
    rounds: int
    seed: int
    load_before: float
    load_after: float
    rows: tuple[PeerRow, ...]
    not_measured: tuple[NotMeasured, ...]


def check_writable(files: Sequence[Path], *, overwrite: bool) -> None:
    """Raise OutputError, before long work, where one of the files exists and must not be replaced."""
    for file in files:
        check_free(file, overwrite=overwrite)


def write_pair(files: tuple[Path, Path], record: Any, text: str, *, overwrite: bool) -> None:
    """Write a dataclass as JSON to the first file and the text to the second.

    Raises:
        OutputError: A file exists and must not be replaced, or cannot be written.
    """
    data = json.dumps(to_mapping(record), indent=2, allow_nan=False) + "\n"
    for file, content in zip(files, (data, text), strict=True):
        write_atomic(file, content, overwrite=overwrite)


def plain(text: str) -> str:
    """Escape text from outside to one line in which Markdown and HTML find no markup."""
    return "".join(f"&#{ord(char)};" if char in _SPECIAL else char for char in one_line(text))


def machine_line(machine: Any, load_before: float, load_after: float, middle: str) -> str:
    """Write the sentence on the processor and the load, with ``middle`` between the two."""
    found = machine if isinstance(machine, Mapping) else {}
    processor = plain(str(found.get("cpu_model", "unknown processor")))
    return f"{processor}, {middle}; load {load_before:.1f} before and {load_after:.1f} after."


def render(report: PeersReport) -> str:
    """Render two tables, the rows that were not measured, and the notes on how to read them."""
    cores = report.machine.get("cores_usable", "?") if isinstance(report.machine, Mapping) else "?"
    parts = [
        "# Beside other tools",
        f"{report.pictures} images ({plain(report.part)} of {plain(report.source)}), model {plain(report.model_name)}, "
        f"{report.labels} labels, input {report.input_size}; {report.rounds} rounds in random order, every tool in a "
        "fresh process each time. "
        + machine_line(report.machine, report.load_before, report.load_after, f"{cores} cores"),
        markdown_table(_SPEED, map(_speed_cells, report.rows), text_columns=(0, 1), shown=plain),
        markdown_table(_ANSWERS, map(_answers_cells, report.rows), text_columns=(0, 1), shown=plain),
        _list("Not measured", [f"{one.name}: {one.reason}" for one in report.not_measured]),
        _list("Notes", _notes(report.rows)),
        _list("Refused and failed", _failures(report.rows)),
        f"Made with {plain(report.command)} at {plain(report.created_at)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def is_right_refusal(outcome: str) -> bool:
    """Tell whether a damaged file was refused and the tool still works."""
    return outcome.startswith("refused") and _STOPPED not in outcome


def _speed_cells(row: PeerRow) -> tuple[str, ...]:
    return (
        row.tool,
        row.what,
        _figure(row.total_ms),
        _ratio(row.times_ours),
        _figure(row.inference_ms),
        _ratio(row.inference_times_ours),
        _figure(row.cpu_ms),
        ABSENT if row.cold_start_s is None else f"{row.cold_start_s:.2f} s",
        megabytes(row.peak_bytes),
        _figure(row.pictures_per_s),
    )


def _answers_cells(row: PeerRow) -> tuple[str, ...]:
    whole = [outcome for what, outcome in row.awkward.items() if what not in DAMAGED]
    damaged = [outcome for what, outcome in row.awkward.items() if what in DAMAGED]
    right, agreement = row.accuracy, row.agreement
    return (
        row.tool,
        row.what,
        f"{row.answered} of {row.pictures}" + ("" if row.is_steady else ", not the same each time"),
        f"{percent(right.fraction)} ({percent_range(right.low, right.high)})" if right else ABSENT,
        percent(agreement.fraction) if agreement else ABSENT,
        _count(whole, "answered"),
        _count(damaged, "refused"),
    )


def _figure(value: float | None) -> str:
    return ABSENT if value is None else significant(value)


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return ABSENT
    interval = f" ({ratio.interval.low:.2f} to {ratio.interval.high:.2f})" if ratio.interval else ""
    return f"{ratio.median:.2f}{interval}"


def _count(outcomes: Sequence[str], expected: str) -> str:
    return f"{sum(outcome.startswith(expected) for outcome in outcomes)} of {len(outcomes)}" if outcomes else ABSENT


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
