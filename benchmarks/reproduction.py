"""Repeat a run from its report: the configuration to use, and what differs from then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import MachineRecord
from benchmarks.plan import KERAS_MODEL_FILE, KERAS_SUBJECTS, BenchConfig
from benchmarks.records import Report
from benchmarks.resources.power_meters import COMMAND_PREFIX, NO_METER
from benchmarks.settings import Settings
from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.labels import shorten
from edge_runtime.model.bundle import file_sha256
from edge_runtime.strict import to_mapping
from edge_runtime.text import escape
from edge_runtime.workstation.datasets.samples import SPLIT_FILE

_HASH_DIGITS = 12
_SAME_MEMORY = 0.01  # a kernel keeps a little more or less of it for itself
_MACHINE_FIELDS = {
    "cpu_model": "processor",
    "architecture": "architecture",
    "simd": "vector instructions",
    "virtualised": "virtual machine",
    "cores_usable": "number of usable cores",
    "governor": "frequency governor",
    "os_name": "system",
    "kernel": "kernel",
    "libc": "C library",
    "python": "Python",
}


def config_of(
    report: Report,
    out: Path,
    *,
    command: str,
    bundle: Path | None = None,
    data: str | None = None,
    keras: Path | None = None,
    power: str | None = None,
    overwrite: bool = False,
) -> BenchConfig:
    """The run that made a report, to be made again.

    A report may come from anybody, so a power meter that is a program is not started again unless it is given anew;
    `lost_settings` says so.

    Args:
        report: What is measured again.
        out: Directory of the new report.
        command: The command line as typed, for the new report.
        bundle: Where the bundle lies now; None takes the report's path.
        data: The images now; None takes the report's.
        keras: Where the run directory lies now; None takes the report's path.
        power: The power reader; None takes the report's.
        overwrite: Whether an existing report is replaced.
    """
    run = keras or (Path(report.keras_run) if report.keras_run is not None else None)
    is_of_run = report.keras_run is not None and report.data.source == f"{SPLIT_FILE} of {report.keras_run}"
    return BenchConfig(
        bundle=bundle or Path(report.bundle),
        data=data or (None if is_of_run else report.data.source),
        keras=run,
        out=out,
        overwrite=overwrite,
        command=command,
        settings=_settings_of(report.settings, power),
    )


def lost_settings(report: Report, config: BenchConfig) -> tuple[str, ...]:
    """A sentence for each setting of the report that a new run does not take from it."""
    then = report.settings.power
    if then == config.settings.power:
        return ()
    return (
        f"The power meter of the report was {_shown(then)}, now it is {_shown(config.settings.power)}; "
        "a program is started only where --power names it again.",
    )


def changed_files(report: Report, config: BenchConfig) -> tuple[str, ...]:
    """A sentence for each model file that is not what the report was measured on; before anything is measured.

    Args:
        report: What is measured again.
        config: With what is there now.
    """
    then = {subject.file: subject.sha256 for subject in report.subjects if subject.name not in KERAS_SUBJECTS}
    now = {file: _hash_of(config.bundle / file) if Path(file).name == file else None for file in then}
    lines = [
        *_changed("The bundle's manifest", report.bundle_manifest_sha256, _hash_of(config.bundle / MANIFEST_FILE)),
        *(line for file in now for line in _changed(f"The artifact {_shown(file)}", then[file] or None, now[file])),
    ]
    if config.keras is not None:
        lines += _changed("The Keras model", report.keras_sha256, _hash_of(config.keras / KERAS_MODEL_FILE))
    return tuple(lines)


def differences(old: Report, new: Report) -> tuple[str, ...]:
    """A sentence for each thing, figures apart, that is not the same in two reports.

    Args:
        old: The report that was to be reproduced.
        new: The same measured again.

    Returns:
        Empty where both were measured on the same files, images, machine, software and settings.
    """
    return (
        *_changed("The bundle's manifest", old.bundle_manifest_sha256, new.bundle_manifest_sha256),
        *_changed_values("The artifact", _artifact_hashes(old), _artifact_hashes(new)),
        *_changed("The Keras model", old.keras_sha256, new.keras_sha256),
        *_changed("The set of images", old.data.sha256, new.data.sha256),
        *_changed("The edgekit release", old.tool, new.tool),
        *_changed_values("The package", old.machine.packages, new.machine.packages),
        *_changed_machine(old.machine, new.machine),
        *_changed_values("The environment variable", old.machine.environment, new.machine.environment),
        *_changed_checkout(old.machine, new.machine),
        *_changed_values("The setting", _told(old.settings), _told(new.settings)),
    )


def _settings_of(settings: Settings, power: str | None) -> Settings:
    is_program = settings.power is not None and settings.power.startswith(COMMAND_PREFIX)
    return replace(settings, power=power or (NO_METER if is_program else settings.power))


def _hash_of(path: Path) -> str | None:
    """Of a regular file: the path of a device, which a stranger's report may name, would be read for ever."""
    try:
        return file_sha256(path) if path.is_file() else None
    except OSError:
        return None


def _artifact_hashes(report: Report) -> dict[str, str]:
    return {subject.name: subject.sha256 for subject in report.subjects if subject.name not in KERAS_SUBJECTS}


def _told(settings: Settings) -> dict[str, str]:
    return {name: str(value) for name, value in to_mapping(settings).items()}


def _changed_machine(old: MachineRecord, new: MachineRecord) -> Iterator[str]:
    for field, words in _MACHINE_FIELDS.items():
        yield from _changed(f"The {words}", getattr(old, field), getattr(new, field))
    if old.memory_bytes and new.memory_bytes:
        if abs(new.memory_bytes / old.memory_bytes - 1) > _SAME_MEMORY:
            yield from _changed("The memory in bytes", old.memory_bytes, new.memory_bytes)
    else:
        yield from _changed("The memory in bytes", old.memory_bytes, new.memory_bytes)


def _changed_checkout(old: MachineRecord, new: MachineRecord) -> Iterator[str]:
    yield from _changed("The git revision", old.git_revision, new.git_revision)
    for when, record in (("of the first report", old), ("of the new report", new)):
        if record.git_dirty:
            yield f"The checkout {when} held altered files, which its git revision does not tell."


def _changed_values(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        yield from _changed(f"{what} {_plain(name)}", old.get(name) or None, new.get(name) or None)


def _changed(what: str, old: object, new: object) -> tuple[str, ...]:
    return () if old == new else (f"{what} was {_shown(old)}, now it is {_shown(new)}.",)


def _shown(value: object) -> str:
    """A value in a sentence; text of a report that may come from anybody is shortened and escaped."""
    if value is None:
        return "not there"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_plain, map(str, value))) or "none"
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:_HASH_DIGITS]
    return _plain(str(value))


def _plain(text: str) -> str:
    return shorten(escape(text))
