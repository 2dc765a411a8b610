"""Method, data and machine of a report as short facts, and caveats on its figures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from benchmarks.records import BoardState, Report
from benchmarks.statistics import is_noisy, repeat_spread
from edge_runtime.workstation.reporting.wording import counted, joined, megabytes, one_line, sentence, significant

MOST_IMAGES = 20
MOST_LABELS = 30
NO_CAVEATS = "Nothing: every model was measured on every image, and the machine was quiet."
Fact = tuple[str, str]
_Key = TypeVar("_Key")

_QUIET_WAITING = 0.05
"""Share of the timed calls spent waiting for a CPU up to which a machine counts as quiet."""

_NOISY = 0.05


def facts_of(report: Report) -> list[tuple[str, list[Fact]]]:
    """Collect the facts on method, images, machine and reproduction, each list with its title."""
    return [
        ("How it was measured", _method(report)),
        ("Images", _data(report)),
        ("Machine", _machine(report)),
        ("Reproduce", _reproduction(report)),
    ]


def _method(report: Report) -> list[Fact]:
    done, settings = report.measured(), report.settings
    runtimes = _grouped(
        (one_line(one.runtime + (f" ({one.delegate})" if one.delegate else "")), subject.name) for subject, one in done
    )
    clean = [subject.name for subject, figures in done if not figures.tensorflow_loaded]
    calls = ", ".join(f"{subject.name} {figures.single_stream.latency.queries:,}" for subject, figures in done)
    return [
        (
            "processes",
            f"each model in fresh processes of its own, {counted(settings.sessions, 'session')} of "
            f"{counted(settings.rounds, 'round')}; in each round every model is timed once, in random order "
            f"(seed {settings.seed})",
        ),
        ("threads", f"{settings.threads} inside one inference"),
        ("runtimes", "; ".join(f"{how}: {', '.join(names)}" for how, names in runtimes.items()) or "none"),
        ("TensorFlow, Keras or JAX", f"in no process of {joined(clean)}" if clean else "in every process"),
        (
            "latency",
            "single stream: from one decoded and resized image to its probabilities, after warming up; "
            f"at least {settings.min_duration_s:g} s and {settings.min_queries} calls of each model. "
            f"Timed calls: {calls or 'none'}. A percentile is the nearest rank, a measured call.",
        ),
        (
            "intervals",
            "95 %: Wilson's for shares, Tango's for the difference to Keras, bootstrap over whole rounds for latencies "
            "and for speed-ups, which are ratios of the same round.",
        ),
        (
            "Keras",
            "keras-function is the model as a compiled tf.function of one image, keras-xla the same with XLA, "
            "keras-predict is model.predict of one image.",
        ),
        (
            "raw figures",
            "every timed call is in latencies.csv, every answer in answers.csv, all of this in report.json",
        ),
    ]


def _data(report: Report) -> list[Fact]:
    data = report.data
    shown = [f"{one_line(label)} {count}" for label, count in data.images_per_label.items()]
    more = f" and {counted(len(shown) - MOST_LABELS, 'more label')}" if len(shown) > MOST_LABELS else ""
    part = "all of it (it has no parts)" if data.part == "all" else f"its {data.part} part"
    facts = [
        ("source", f"{one_line(data.source)}, {part}"),
        ("images", f"{data.images:,}: {', '.join(shown[:MOST_LABELS])}{more}"),
        ("fingerprint", data.sha256),
    ]
    if data.ignored_files:
        facts.append(("ignored", f"{counted(data.ignored_files, 'file')} that are not images by their suffix"))
    facts += [("left out", f"{one_line(item.file)}: {one_line(item.reason)}") for item in data.unreadable[:MOST_IMAGES]]
    if len(data.unreadable) > MOST_IMAGES:
        facts.append(("left out", f"and {len(data.unreadable) - MOST_IMAGES} more, all listed in report.json"))
    return facts


def _machine(report: Report) -> list[Fact]:
    record, board = report.machine, report.board
    memory = "unknown" if record.memory_bytes is None else megabytes(record.memory_bytes)
    virtual = ", in a virtual machine" if record.virtualised else ""
    vectors = f", {' '.join(map(one_line, record.simd))}" if record.simd else ""
    system = [part for part in (record.os_name, record.kernel, record.libc, f"Python {record.python}") if part]
    facts = [
        ("CPU", f"{one_line(record.cpu_model)} ({record.architecture}{vectors}{virtual})"),
        ("cores", f"{record.cores_usable} of {record.cores_total} usable"),
        ("memory", memory),
        ("governor", record.governor or "unknown"),
        ("before", _state(board.before)),
        ("after", _state(board.after)),
    ]
    if board.hottest_c is not None:
        facts.append(("hottest", f"{board.hottest_c:.1f} °C"))
    idle = "" if board.idle_w is None else f", {significant(board.idle_w)} W before the first measurement"
    facts.append(("power meter", f"{one_line(board.power_meter)}{idle}" if board.power_meter else "none"))
    facts += [
        ("system", ", ".join(map(one_line, system))),
        ("packages", ", ".join(f"{one_line(name)} {one_line(version)}" for name, version in record.packages.items())),
    ]
    if record.environment:
        shown = (f"{one_line(name)}={one_line(value)}" for name, value in record.environment.items())
        facts.append(("environment", ", ".join(shown)))
    return facts


def _reproduction(report: Report) -> list[Fact]:
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
    files = [f"{one_line(item.file)} {item.sha256}" for item in report.subjects if item.sha256 and not item.is_keras]
    return [*facts, *(("SHA-256", file) for file in files)]


def _state(state: BoardState) -> str:
    parts = [f"load {state.load_average_1min:.2f}"]
    if state.temperature_c is not None:
        parts.append(f"{state.temperature_c:.1f} °C")
    if state.frequency_mhz is not None:
        parts.append(f"{state.frequency_mhz:.0f} MHz")
    if state.throttling:
        parts.append(", ".join(map(one_line, state.throttling)))
    return ", ".join(parts)


def caveats(report: Report) -> list[str]:
    """Write one sentence per limitation, reasons for an invalid run first."""
    return [
        *(f"Do not quote the latencies: {sentence(reason)}" for reason in report.invalid),
        *_not_measured(report),
        *_noise(report),
        *_keras(report),
        *_images(report),
        *map(sentence, report.remarks),
    ]


def _not_measured(report: Report) -> list[str]:
    """List subjects, then figures; those with the same reason share a sentence."""
    failed = _grouped((subject.error, one_line(subject.name)) for subject in report.subjects if subject.error)
    lines = [
        f"{joined(names)} {'was' if len(names) == 1 else 'were'} not measured: {sentence(reason)}"
        for reason, names in failed.items()
    ]
    done = report.measured()
    figures = _grouped(
        ((item.what, item.reason), subject.name) for subject, figures in done for item in figures.not_measured
    )
    by_reason = _grouped(((reason, tuple(names)), one_line(what)) for (what, reason), names in figures.items())
    for (reason, owners), whats in by_reason.items():
        whose = "any model" if len(owners) == len(done) > 1 else joined(owners)
        lines.append(f"Not measured of {whose}: {joined(whats)}: {sentence(reason)}")
    return lines


def _grouped(pairs: Iterable[tuple[_Key, str]]) -> dict[_Key, list[str]]:
    """Collect the different values of each key, in order."""
    found: dict[_Key, dict[str, None]] = {}
    for key, value in pairs:
        found.setdefault(key, {})[value] = None
    return {key: list(values) for key, values in found.items()}


def _noise(report: Report) -> list[str]:
    lines = []
    speedups = [(subject.name, figures.single_stream.speedup) for subject, figures in report.measured()]
    noisy = [(name, ratio) for name, ratio in speedups if ratio is not None and is_noisy(ratio)]
    spreads = [(name, repeat_spread(ratio)) for name, ratio in noisy]
    wide = [f"{name} ({100 * spread:.0f} %)" for name, spread in spreads if spread is not None]
    if wide:
        lines.append(
            "The machine was too noisy: by its 95 % interval, another run may give a speed-up that differs by more "
            f"than 5 % for {joined(wide)}."
        )
    unknown = [name for name, spread in spreads if spread is None]
    if unknown:
        lines.append(f"The speed-up of {joined(unknown)} has no interval: too few rounds to say how steady it is.")
    if not any(ratio for _, ratio in speedups):
        lines += _noisy_latencies(report)
    return lines + _waiting(report)


def _waiting(report: Report) -> list[str]:
    """List the models whose threads waited for a CPU; threads of one model also wait for one another."""
    alone: list[str] = []
    threaded: list[str] = []
    for subject, figures in report.measured():
        share = figures.single_stream.waiting or 0.0
        if share > _QUIET_WAITING:
            has_threads = subject.is_keras or report.settings.threads > 1
            (threaded if has_threads else alone).append(f"{subject.name} {100 * share:.0f} %")
    lines = []
    if alone:
        lines.append(
            f"Other programs used the CPU during a part of the timed calls ({', '.join(alone)}): "
            "latencies and cold starts are too high; measure again on a quiet machine."
        )
    if threaded:
        lines.append(
            f"The CPU was busy ({', '.join(threaded)} of the timed calls), with threads of the model or of other "
            "programs; timings may be too high."
        )
    return lines


def _noisy_latencies(report: Report) -> list[str]:
    """Judge the latencies themselves, for a report without ratios."""
    wide = []
    for subject, figures in report.measured():
        latency = figures.single_stream.latency
        interval = latency.p50_interval_ms
        half_width = (interval.high - interval.low) / 2 / latency.p50_ms if interval else 0.0
        if half_width > _NOISY:
            wide.append(f"{subject.name} ({100 * half_width:.0f} %)")
    if not wide:
        return []
    return [
        f"The machine was too noisy: the 95 % interval of the p50 is wider than 5 % to either side for {joined(wide)}."
    ]


def _keras(report: Report) -> list[str]:
    if report.keras_run is None:
        reason = "no Keras model was given (--keras RUN)"
    elif not any(subject.performance for subject in report.subjects if subject.is_keras):
        reason = "it was not measured"
    else:
        return []
    return [f"Nothing is compared with Keras (agreement, McNemar's test, speed-up, moved errors): {reason}."]


def _images(report: Report) -> list[str]:
    data, lines = report.data, []
    if data.unreadable:
        total = data.images + len(data.unreadable)
        left_out = f"{len(data.unreadable)} of {counted(total, 'image')}"
        lines.append(f"{left_out} {'was' if len(data.unreadable) == 1 else 'were'} left out as unreadable; see below.")
    if data.trained_on is None:
        lines.append("Unknown: training images of the model may be among these images (--keras RUN would tell).")
    elif data.trained_on:
        lines.append(
            f"{data.trained_on} of {counted(data.images, 'image')} were in the training part of the run: "
            "the accuracy does not hold for new images."
        )
    if data.part == "validation":
        lines.append("The validation part was used, which selected the weights: the accuracy may be a little too high.")
    return lines
