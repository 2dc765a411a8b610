"""Repetition of a run from its report: the configuration to use, and the differences from then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.machine import SOFTWARE_FIELDS, SPEED_FIELDS, MachineRecord
from benchmarks.plan import KERAS_MODEL_FILE, BenchConfig
from benchmarks.records import Report
from benchmarks.resources.power_meters import COMMAND_PREFIX, NO_METER
from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.errors import shorten
from edge_runtime.model.bundle import file_sha256
from edge_runtime.strict import to_mapping
from edge_runtime.text import escape
from edge_runtime.workstation.datasets.samples import SPLIT_FILE

_HASH_DIGITS = 12
_SAME_MEMORY = 0.01  # kernels reserve a little more or less of it


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
    """Make the configuration that repeats the run of a report; see `BenchConfig`.

    Bundle, data, run and power meter are taken from the report unless they are given. A report may be untrusted, so a
    power meter that is a program is started only if ``power`` names it again; see `lost_settings`.
    """
    run = keras or (Path(report.keras_run) if report.keras_run is not None else None)
    then = report.settings.power
    is_program = then is not None and then.startswith(COMMAND_PREFIX)
    is_of_run = report.keras_run is not None and report.data.source == f"{SPLIT_FILE} of {report.keras_run}"
    return BenchConfig(
        bundle=bundle or Path(report.bundle),
        data=data or (None if is_of_run else report.data.source),
        keras=run,
        out=out,
        overwrite=overwrite,
        command=command,
        settings=replace(report.settings, power=power or (NO_METER if is_program else then)),
    )


def lost_settings(report: Report, config: BenchConfig) -> tuple[str, ...]:
    """Write a sentence for each setting of the report that the new run does not use."""
    then = report.settings.power
    if then == config.settings.power:
        return ()
    return (
        f"The power meter of the report was {_shown(then)}, now it is {_shown(config.settings.power)}; "
        "a program is started only if --power names it again.",
    )


def changed_files(report: Report, config: BenchConfig) -> tuple[str, ...]:
    """Write a sentence for each current model file that differs from the report's, before anything is measured."""
    then = {subject.file: subject.sha256 for subject in report.subjects if not subject.is_keras}
    now = {file: _hash_of(config.bundle / file) if Path(file).name == file else None for file in then}
    lines = [
        *_changed("The bundle's manifest", report.bundle_manifest_sha256, _hash_of(config.bundle / MANIFEST_FILE)),
        *(line for file in now for line in _changed(f"The artifact {_shown(file)}", then[file] or None, now[file])),
    ]
    if config.keras is not None:
        lines += _changed("The Keras model", report.keras_sha256, _hash_of(config.keras / KERAS_MODEL_FILE))
    return tuple(lines)


def differences(old: Report, new: Report) -> tuple[str, ...]:
    """Write a sentence for each difference between two reports in files, images, machine, software and settings."""
    settings = [{name: str(value) for name, value in to_mapping(one.settings).items()} for one in (old, new)]
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
        *_changed_values("The setting", *settings),
    )


def _hash_of(path: Path) -> str | None:
    """Hash a regular file only: a device, which an untrusted report may name, would be read forever."""
    try:
        return file_sha256(path) if path.is_file() else None
    except OSError:
        return None


def _artifact_hashes(report: Report) -> dict[str, str]:
    return {subject.name: subject.sha256 for subject in report.subjects if not subject.is_keras}


def _changed_machine(old: MachineRecord, new: MachineRecord) -> Iterator[str]:
    for field, words in {**SPEED_FIELDS, **SOFTWARE_FIELDS}.items():
        yield from _changed(f"The {words}", getattr(old, field), getattr(new, field))
    before, after = old.memory_bytes, new.memory_bytes
    if not (before and after and abs(after / before - 1) <= _SAME_MEMORY):
        yield from _changed("The memory in bytes", before, after)


def _changed_checkout(old: MachineRecord, new: MachineRecord) -> Iterator[str]:
    yield from _changed("The git revision", old.git_revision, new.git_revision)
    for when, record in (("of the first report", old), ("of the new report", new)):
        if record.git_dirty:
            yield f"The checkout {when} held altered files, which its git revision does not include."


def _changed_values(what: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        yield from _changed(f"{what} {_plain(name)}", old.get(name) or None, new.get(name) or None)


def _changed(what: str, old: object, new: object) -> tuple[str, ...]:
    return () if old == new else (f"{what} was {_shown(old)}, now it is {_shown(new)}.",)


def _shown(value: object) -> str:
    """Write a value in a sentence; text of a report may be untrusted, so it is shortened and escaped."""
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
