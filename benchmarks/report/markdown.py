"""A report as Markdown: one table with a row for each model, then what a reader must know about the figures."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

from benchmarks.report.record import Performance, Report, SubjectResult
from benchmarks.statistics import Share

_HEADER = (
    "model",
    "accuracy (95 % interval)",
    "agrees with Keras",
    "size",
    "p50 ms",
    "p90 ms",
    "p99 ms",
    "cold start",
    "peak memory",
    "speed-up",
)
_ABSENT = "–"
_MARKDOWN_SPECIALS = re.compile(r"([\\`*_\[\]|])")
_LISTED_PICTURES = 20
_QUIET_WAITING = 0.05
"""Share of the timed calls spent waiting for a processor up to which a machine counts as quiet."""


def render_markdown(report: Report) -> str:
    """The whole of ``report.md``."""
    sections = [f"# Benchmark of {escape(report.model_name)}", render_table(report), *_notes(report)]
    return "\n\n".join(sections) + "\n"


def render_table(report: Report) -> str:
    """The table, padded so that it also reads well in a terminal."""
    return _table(_HEADER, [_row(subject) for subject in report.subjects])


def one_line(text: str) -> str:
    """Text of a person or a file system without line breaks and control characters."""
    return "".join(char if char.isprintable() else " " for char in text)


def escape(text: str) -> str:
    """Such text as plain Markdown: one line, no markup, no HTML."""
    return _MARKDOWN_SPECIALS.sub(r"\\\1", html.escape(one_line(text), quote=False))


def megabytes(count: int) -> str:
    """Bytes as MB of 10^6, such as ``0.658 MB`` or ``66.1 MB``."""
    return f"{significant(count / 1e6)} MB"


def significant(value: float) -> str:
    """About three significant digits, at most three decimals: ``0.704``, ``9.31``, ``66.1``, ``114``."""
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}"


def _row(subject: SubjectResult) -> list[str]:
    size = megabytes(subject.bytes) if subject.bytes else _ABSENT
    figures = subject.performance
    if figures is None:
        return [escape(subject.name), "not measured", _ABSENT, size, *[_ABSENT] * 6]
    latency = figures.latency
    return [
        escape(subject.name),
        f"{_percent(figures.accuracy.fraction)} ({_interval(figures.accuracy)})",
        _percent(figures.agreement.fraction) if figures.agreement else _ABSENT,
        size,
        *(significant(value) for value in (latency.p50_ms, latency.p90_ms, latency.p99_ms)),
        f"{figures.cold_start.median_ms / 1000:.2f} s",
        _ABSENT if figures.peak_memory_bytes is None else megabytes(figures.peak_memory_bytes),
        _ABSENT if figures.speedup is None else f"{significant(figures.speedup)}x",
    ]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _interval(share: Share) -> str:
    return f"{100 * share.low:.1f} to {100 * share.high:.1f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [
        "| " + " | ".join(_pad(cell, widths[i], i) for i, cell in enumerate(row)) + " |" for row in [header, *rows]
    ]
    rule = (
        "| " + " | ".join("-" * width if i == 0 else "-" * (width - 1) + ":" for i, width in enumerate(widths)) + " |"
    )
    return "\n".join([lines[0], rule, *lines[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _notes(report: Report) -> list[str]:
    measured = [(subject.name, subject.performance) for subject in report.subjects if subject.performance]
    return [
        "## Not measured, or measured with a caveat",
        _bullets(map(escape, caveats(report) or ["Nothing: every model was measured on every picture."])),
        "## Cold start, in ms",
        _table(
            ("model", "starts", "median", "interpreter", "import", "load", "first answer"),
            [_cold_start_row(name, figures) for name, figures in measured],
        ),
        "## How it was measured",
        _bullets(_method(report, measured)),
        "## Pictures",
        _bullets(_pictures(report)),
        "## Machine",
        _bullets(_machine(report)),
    ]


def caveats(report: Report) -> list[str]:
    """What a reader must know before using the figures, one plain sentence each."""
    data = report.data
    lines = [
        f"{subject.name} was not measured: {one_line(subject.error)}"
        for subject in report.subjects
        if subject.error is not None
    ]
    lines += report.remarks
    if report.keras_run is None:
        lines.append("Agreement and speed-up were not measured: no Keras model was given (--keras RUN).")
    if data.unreadable:
        total = data.images + len(data.unreadable)
        lines.append(
            f"{len(data.unreadable)} of {total} pictures were left out because they cannot be read; see below."
        )
    if data.trained_on is None:
        lines.append(
            "It is not known whether the model was trained on some of these pictures (--keras RUN would tell)."
        )
    elif data.trained_on:
        lines.append(
            f"{data.trained_on} of {data.images} pictures were in the training part of the run: "
            "the accuracy says little about new pictures."
        )
    if data.part == "validation":
        lines.append(
            "The validation part was used, which chose among weights: the accuracy may flatter the model a little."
        )
    disturbed = [
        f"{subject.name} {subject.performance.waiting:.0%}"
        for subject in report.subjects
        if subject.performance and (subject.performance.waiting or 0.0) > _QUIET_WAITING
    ]
    if disturbed:
        lines.append(
            f"Other programs had the processor for a part of the timed calls ({', '.join(disturbed)}): "
            "latencies and cold starts are too long; measure again on a quiet machine."
        )
    return lines


def _cold_start_row(name: str, figures: Performance) -> list[str]:
    start = figures.cold_start
    parts = (start.median_ms, start.interpreter_ms, start.import_ms, start.load_ms, start.first_ms)
    return [escape(name), str(len(start.samples_ms)), *(f"{part:.0f}" for part in parts)]


def _method(report: Report, measured: Sequence[tuple[str, Performance]]) -> list[str]:
    counts = ", ".join(f"{escape(name)} {figures.latency.invocations}" for name, figures in measured)
    runtimes = ", ".join(f"{escape(name)}: {escape(figures.runtime)}" for name, figures in measured)
    clean = [escape(name) for name, figures in measured if not figures.tensorflow_loaded]
    return [
        f"Command: {escape(report.command)}",
        f"Every model in fresh processes of its own, {report.threads} thread(s) inside one inference, on the "
        f"processor. {runtimes}.",
        f"No TensorFlow, Keras or JAX in the process of: {', '.join(clean) or 'none'}.",
        "Latency: one picture that is decoded and resized already, to its probabilities, after at least half a second "
        f"of warming up. Timed calls: {counts}. A percentile is the nearest rank, a call that was measured; "
        "with fewer than 100 calls p99 is the slowest.",
        "Speed-up: p50 of keras-function (the model as a tf.function of one picture) divided by the model's p50. "
        "keras-predict is model.predict of one picture.",
        "Accuracy: top-1 with the Wilson 95 % interval. Agreement: share of pictures with the top-1 of "
        "keras-predict (of keras-function where that failed).",
        "Cold start: from making the process to its first answer for one picture file; the median of several, so that "
        "the libraries lie in the page cache, while a single start may include reading them from disk.",
        "Peak memory: highest resident memory of the process that started, classified one picture file and made the "
        "timed calls. MB are 10^6 bytes.",
        "Every timed call is in latencies.csv, every answer in answers.csv.",
    ]


def _pictures(report: Report) -> list[str]:
    data = report.data
    labels = ", ".join(f"{escape(label)} {count}" for label, count in data.images_per_label.items())
    part = "all of it (it has no parts)" if data.part == "all" else f"its {data.part} part"
    lines = [
        f"{data.images} pictures of {escape(data.source)}, {part}: {labels}.",
        f"Fingerprint: {data.sha256}",
    ]
    if data.ignored_files:
        lines.append(f"{data.ignored_files} file(s) that are no pictures by their name were passed over.")
    lines += [f"Left out: {escape(item.file)}: {escape(item.reason)}" for item in data.unreadable[:_LISTED_PICTURES]]
    if len(data.unreadable) > _LISTED_PICTURES:
        lines.append(f"and {len(data.unreadable) - _LISTED_PICTURES} more, all named in report.json.")
    return lines


def _machine(report: Report) -> list[str]:
    machine = report.machine
    memory = "unknown" if machine.memory_bytes is None else megabytes(machine.memory_bytes)
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return [
        f"{escape(machine.cpu_model)} ({machine.architecture}), {machine.cores_usable} of {machine.cores_total} cores "
        f"usable, memory {memory}",
        f"Frequency governor: {machine.governor or 'cannot be read'}; load average before: "
        f"{machine.load_average_1min:.2f}",
        f"{escape(machine.kernel)}, Python {machine.python}, {escape(packages)}",
        f"{escape(report.tool)}, {report.created_utc}, bundle {escape(report.bundle)} "
        f"(manifest SHA-256 {report.bundle_manifest_sha256})",
    ]


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
