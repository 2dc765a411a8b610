"""How, on what and where a report was measured, as named facts for Markdown and the page."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.machine import MachineRecord
from benchmarks.records.board import BoardState
from benchmarks.records.performance import Performance, SubjectResult
from benchmarks.records.report import Report
from benchmarks.report.table import is_keras, measured
from benchmarks.report.wording import counted, joined, megabytes, one_line, significant

MOST_PICTURES = 20
MOST_LABELS = 30
Fact = tuple[str, str]


def method(report: Report) -> list[Fact]:
    """What was timed and how."""
    done, settings = measured(report), report.settings
    runtimes: dict[str, list[str]] = {}
    for subject, figures in done:
        how = figures.runtime + (f" ({figures.delegate})" if figures.delegate else "")
        runtimes.setdefault(one_line(how), []).append(subject.name)
    return [
        ("processes", _processes(report)),
        ("threads", f"{settings.threads} inside one inference"),
        ("runtimes", "; ".join(f"{how}: {', '.join(names)}" for how, names in runtimes.items()) or "none"),
        ("TensorFlow, Keras or JAX", _without_tensorflow(done)),
        (
            "latency",
            "single stream: one picture that is decoded and resized already, to its probabilities, after warming up; "
            f"at least {settings.min_duration_s:g} s and {settings.min_queries} calls of each model. "
            f"Timed calls: {_calls(done)}. A percentile is the nearest rank, a call that was measured.",
        ),
        (
            "intervals",
            "95 %: Wilson's for shares, Tango's for the difference to Keras, bootstrap over whole rounds for latencies "
            "and for speed-ups, which are ratios of the same round.",
        ),
        (
            "Keras",
            "keras-function is the model as a compiled tf.function of one picture, keras-xla the same with XLA, "
            "keras-predict is model.predict of one picture.",
        ),
        (
            "raw figures",
            "every timed call is in latencies.csv, every answer in answers.csv, all of this in report.json",
        ),
    ]


def pictures(report: Report) -> list[Fact]:
    """What was measured on."""
    data = report.data
    shown = [f"{one_line(label)} {count}" for label, count in data.images_per_label.items()]
    more = f" and {counted(len(shown) - MOST_LABELS, 'more label')}" if len(shown) > MOST_LABELS else ""
    part = "all of it (it has no parts)" if data.part == "all" else f"its {data.part} part"
    facts = [
        ("source", f"{one_line(data.source)}, {part}"),
        ("pictures", f"{data.images:,}: {', '.join(shown[:MOST_LABELS])}{more}"),
        ("fingerprint", data.sha256),
    ]
    if data.ignored_files:
        facts.append(("passed over", f"{counted(data.ignored_files, 'file')} that are no pictures by their name"))
    facts += [
        ("left out", f"{one_line(item.file)}: {one_line(item.reason)}") for item in data.unreadable[:MOST_PICTURES]
    ]
    if len(data.unreadable) > MOST_PICTURES:
        facts.append(("left out", f"and {len(data.unreadable) - MOST_PICTURES} more, all named in report.json"))
    return facts


def machine(report: Report) -> list[Fact]:
    """Where it was measured."""
    record, board = report.machine, report.board
    memory = "unknown" if record.memory_bytes is None else megabytes(record.memory_bytes)
    facts = [
        ("processor", _processor(record)),
        ("cores", f"{record.cores_usable} of {record.cores_total} usable"),
        ("memory", memory),
        ("governor", record.governor or "cannot be read"),
        ("before", _state(board.before)),
        ("after", _state(board.after)),
    ]
    if board.hottest_c is not None:
        facts.append(("hottest", f"{board.hottest_c:.1f} °C"))
    idle = "" if board.idle_w is None else f", {significant(board.idle_w)} W before the first measurement"
    facts.append(("power meter", f"{one_line(board.power_meter)}{idle}" if board.power_meter else "none"))
    facts += [
        ("system", ", ".join(map(one_line, _system(record)))),
        ("packages", ", ".join(f"{one_line(name)} {one_line(version)}" for name, version in record.packages.items())),
    ]
    if record.environment:
        shown = (f"{one_line(name)}={one_line(value)}" for name, value in record.environment.items())
        facts.append(("environment", ", ".join(shown)))
    return facts


def reproduction(report: Report) -> list[Fact]:
    """What is needed to measure the same again."""
    facts = [
        ("again", "edge-bench reproduce report.json --out again, then edge-bench compare report.json again"),
        ("command", one_line(report.command)),
        ("tool", f"{one_line(report.tool)}, {report.created_utc}, {report.duration_s:.0f} s in all"),
        ("seed", str(report.settings.seed)),
        ("bundle", f"{one_line(report.bundle)} (manifest SHA-256 {report.bundle_manifest_sha256})"),
    ]
    if report.keras_run is not None:
        facts.append(("Keras run", f"{one_line(report.keras_run)} (model SHA-256 {report.keras_sha256 or 'unknown'})"))
    revision = report.machine.git_revision
    if revision is not None:
        altered = " (with altered files)" if report.machine.git_dirty else ""
        facts.append(("git revision", f"{one_line(revision)}{altered}"))
    files = [f"{one_line(item.file)} {item.sha256}" for item in report.subjects if item.sha256 and not is_keras(item)]
    return [*facts, *(("SHA-256", file) for file in files)]


def _processes(report: Report) -> str:
    settings = report.settings
    return (
        f"every model in fresh processes of its own, {counted(settings.sessions, 'session')} of "
        f"{counted(settings.rounds, 'round')}; in each round every model is timed once, in random order "
        f"(seed {settings.seed})"
    )


def _without_tensorflow(done: Sequence[tuple[SubjectResult, Performance]]) -> str:
    clean = [subject.name for subject, figures in done if not figures.tensorflow_loaded]
    return f"in no process of {joined(clean)}" if clean else "in every process"


def _calls(done: Sequence[tuple[SubjectResult, Performance]]) -> str:
    return ", ".join(f"{subject.name} {figures.single_stream.latency.queries:,}" for subject, figures in done) or "none"


def _processor(record: MachineRecord) -> str:
    virtual = ", in a virtual machine" if record.virtualised else ""
    vectors = f", {' '.join(map(one_line, record.simd))}" if record.simd else ""
    return f"{one_line(record.cpu_model)} ({record.architecture}{vectors}{virtual})"


def _system(record: MachineRecord) -> list[str]:
    return [part for part in (record.os_name, record.kernel, record.libc, f"Python {record.python}") if part]


def _state(state: BoardState) -> str:
    parts = [f"load {state.load_average_1min:.2f}"]
    if state.temperature_c is not None:
        parts.append(f"{state.temperature_c:.1f} °C")
    if state.frequency_mhz is not None:
        parts.append(f"{state.frequency_mhz:.0f} MHz")
    if state.throttling:
        parts.append(", ".join(map(one_line, state.throttling)))
    return ", ".join(parts)
