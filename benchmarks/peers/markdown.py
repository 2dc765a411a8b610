"""Peers report as Markdown, and the pair of files that a checkout report consists of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.measuring import DAMAGED
from benchmarks.peers.records import PeerRow, PeersReport
from benchmarks.statistics import Ratio, Share, is_noisy
from edge_runtime.labels import shorten
from edge_runtime.platform.atomic import check_free, write_atomic
from edge_runtime.strict import to_mapping


def check_writable(files: Sequence[Path], *, overwrite: bool) -> None:
    """Raise OutputError, before long work, where one of the files exists and must not be replaced."""
    for file in files:
        check_free(file, overwrite=overwrite)


def write_pair(files: tuple[Path, Path], record: Any, text: str, *, overwrite: bool) -> None:
    """Write a dataclass as JSON to the first file and the text to the second.

    Raises:
        OutputError: A file exists and must not be replaced, or cannot be written.
    """
    json_file, text_file = files
    data = json.dumps(to_mapping(record), indent=2, allow_nan=False) + "\n"
    write_atomic(json_file, data, overwrite=overwrite)
    write_atomic(text_file, text, overwrite=overwrite)


_ABSENT = "–"
_UNITS = {"parameters": "million parameters", "gflops": "GFLOP an inference (two per multiply-add)"}
_REASON_CHARACTERS = 110
_STOPPED = "; then it answers no other image either: "
_SPECIAL = "&<>|`[]\\"
_SPEED = (
    "| tool | model | file to label, p50 | times ours | inference, p50 | times ours | processor an image "
    "| cold start | peak memory | images/s, whole process |\n| --- | --- " + "| ---: " * 8 + "|"
)
_ANSWERS = (
    "| tool | model | answered | right (95 %) | as ours | awkward files answered | damaged files refused |\n"
    "| --- | --- | ---: | ---: | ---: | ---: | ---: |"
)


def render(report: PeersReport) -> str:
    """Two tables, what is not measured, and what must be known to read them."""
    speed = [_speed_row(row) for row in report.rows]
    answers = [_answers_row(row) for row in report.rows]
    parts = [
        "# Beside other tools",
        f"{report.pictures} images ({plain(report.part)} of {plain(report.source)}), model {_model(report)}; "
        f"{report.rounds} rounds in random order, every tool in a fresh process each time. {_machine(report)}",
        "\n".join([_SPEED, *speed]),
        "\n".join([_ANSWERS, *answers]),
        _list("Not measured", [f"{one.name}: {one.reason}" for one in report.not_measured]),
        _list("Read it with this", _notes(report.rows)),
        _list("What stopped whom", _stops(report.rows)),
        f"Made with {plain(report.command)} at {plain(report.created_at)}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def plain(text: str) -> str:
    """Text from outside as one line in which Markdown and HTML see nothing but characters."""
    line = "".join(char if char.isprintable() else " " for char in text)
    return "".join(f"&#{ord(char)};" if char in _SPECIAL else char for char in line)


def _model(report: PeersReport) -> str:
    return f"{plain(report.model_name)}, {report.labels} labels, input {report.input_size}"


def _machine(report: PeersReport) -> str:
    machine = report.machine if isinstance(report.machine, dict) else {}
    return (
        f"{plain(str(machine.get('cpu_model', 'unknown processor')))}, {machine.get('cores_usable', '?')} cores; load "
        f"{report.load_before:.1f} before and {report.load_after:.1f} after."
    )


def _speed_row(row: PeerRow) -> str:
    cells = [
        plain(row.tool),
        plain(row.what),
        _ms(row.total_ms),
        _ratio(row.times_ours),
        _ms(row.inference_ms),
        _ratio(row.inference_times_ours),
        _ms(row.cpu_ms),
        _ABSENT if row.cold_start_s is None else f"{row.cold_start_s:.2f} s",
        f"{row.peak_bytes / 1e6:.0f} MB",
        f"{row.pictures_per_s:.0f}" if row.pictures_per_s >= 10 else f"{row.pictures_per_s:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _answers_row(row: PeerRow) -> str:
    whole = {what: outcome for what, outcome in row.awkward.items() if what not in DAMAGED}
    damaged = {what: outcome for what, outcome in row.awkward.items() if what in DAMAGED}
    cells = [
        plain(row.tool),
        plain(row.what),
        f"{row.answered} of {row.pictures}" + ("" if row.is_steady else ", not the same each time"),
        _share(row.accuracy, with_interval=True),
        _share(row.agreement, with_interval=False),
        f"{sum(outcome.startswith('answered') for outcome in whole.values())} of {len(whole)}" if whole else _ABSENT,
        f"{sum(outcome.startswith('refused') for outcome in damaged.values())} of {len(damaged)}"
        if damaged
        else _ABSENT,
    ]
    return f"| {' | '.join(cells)} |"


def _ms(value: float | None) -> str:
    if value is None:
        return _ABSENT
    digits = 3 if value < 1 else 2 if value < 10 else 1
    return f"{value:.{digits}f} ms"


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return _ABSENT
    interval = f" ({ratio.interval.low:.2f} to {ratio.interval.high:.2f})" if ratio.interval else ""
    return f"{ratio.median:.2f}{interval}"


def _share(share: Share | None, *, with_interval: bool) -> str:
    if share is None:
        return _ABSENT
    interval = f" ({100 * share.low:.1f} to {100 * share.high:.1f})" if with_interval else ""
    return f"{100 * share.fraction:.1f} %{interval}"


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}\n", *(f"- {plain(line)}" for line in lines)]) if lines else ""


def _notes(rows: Sequence[PeerRow]) -> list[str]:
    notes = [
        "Times ours: how many times as long as edgekit's Python interface takes for the same model file (the first of "
        "its files for tools that run none of them), paired by round; above 1 edgekit is faster. 95 % bootstrap "
        "interval over rounds.",
        "A tool that shows no inference time of its own has none here. Processor time counts all threads of the "
        "process; for edge-run classify it includes the start of the process.",
        "Images are prepared as each tool's guide does it: edgekit crops as the model's manifest says; the plain "
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


def _stops(rows: Sequence[PeerRow]) -> list[str]:
    """Whole images that were refused, damaged ones that were answered, and what a tool did not survive."""
    lines = []
    for row in rows:
        for reason, count in row.refusals.items():
            lines.append(f"{row.name}: {count} of the {row.pictures} images: {_short(reason)}")
        for what, outcome in row.awkward.items():
            if outcome != "answered" if what not in DAMAGED else not is_right_refusal(outcome):
                lines.append(f"{row.name}: {what}: {_short(outcome)}")
    return lines


def is_right_refusal(outcome: str) -> bool:
    """Whether a damaged file was refused and the tool goes on."""
    return outcome.startswith("refused") and _STOPPED not in outcome


def _short(outcome: str) -> str:
    """The beginning of each part of an outcome; tools tell long stories, which are whole in the JSON."""
    return _STOPPED.join(shorten(part, _REASON_CHARACTERS) for part in outcome.split(_STOPPED))
