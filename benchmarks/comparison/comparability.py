"""Comparability of two reports: differences in machine, settings, data and models, and what they rule out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.machine import MachineRecord
from benchmarks.records import NotMeasured, Report

_SPEED_FIELDS = {
    "cpu_model": "processor",
    "architecture": "architecture",
    "simd": "vector instructions",
    "virtualised": "virtual machine",
    "cores_usable": "usable cores",
    "governor": "frequency governor",
}
"""What of a machine decides how fast it is."""
_OTHER_FIELDS = {
    "cores_total": "cores",
    "memory_bytes": "memory",
    "os_name": "system",
    "kernel": "kernel",
    "libc": "C library",
    "python": "Python",
    "git_revision": "revision",
}


@dataclass(frozen=True)
class Comparability:
    """What may be compared.

    Attributes:
        same_machine: Whether times and memory are of the same kind of machine and the same threads.
        same_labels: Whether accuracies speak of the same question.
        same_images: Whether they speak of the same images.
        differences: A sentence for each thing that differs, loudest first.
        not_compared: What therefore is not compared.
    """

    same_machine: bool
    same_labels: bool
    same_images: bool
    differences: tuple[str, ...]
    not_compared: tuple[NotMeasured, ...]


def find_comparability(before: Report, after: Report) -> Comparability:
    """Look at everything but the figures."""
    speed = [*_changed(before.machine, after.machine, _SPEED_FIELDS), *_threads(before, after)]
    same_labels = set(before.data.images_per_label) == set(after.data.images_per_label)
    same_images = before.data.sha256 == after.data.sha256
    loud: list[str] = []
    not_compared: list[NotMeasured] = []
    if speed:
        what = "; ".join(speed)
        loud.append(f"NOT THE SAME MACHINE OR SETTING ({what}): times, throughput and memory are not compared.")
        not_compared.append(NotMeasured("latency, throughput, cold start, memory, install size", what))
    if not same_labels:
        loud.append("OTHER LABELS: accuracies are not compared.")
        not_compared.append(NotMeasured("accuracy", "the reports' images have other labels"))
    elif not same_images:
        loud.append(
            f"OTHER IMAGES ({before.data.source}, {before.data.images}, and {after.data.source}, "
            f"{after.data.images}): accuracies are compared as those of two samples, so a difference may also be one "
            "between the images."
        )
    quiet = [*_models(before, after), *_sentences(before, after)]
    return Comparability(not speed, same_labels, same_images, (*loud, *quiet), tuple(not_compared))


def _threads(before: Report, after: Report) -> list[str]:
    counts = before.settings.threads, after.settings.threads
    return [f"threads {counts[0]} and {counts[1]}"] if counts[0] != counts[1] else []


def _models(before: Report, after: Report) -> Iterable[str]:
    if before.model_name != after.model_name:
        yield f"OTHER MODEL: {before.model_name} and {after.model_name}; the differences are those between two models."
    elif before.bundle_manifest_sha256 != after.bundle_manifest_sha256:
        yield "The bundle was made anew between the reports."
    if before.keras_sha256 and after.keras_sha256 and before.keras_sha256 != after.keras_sha256:
        yield "The Keras model was trained anew between the reports."


def _sentences(before: Report, after: Report) -> Iterable[str]:
    changed = [
        *_changed(before.machine, after.machine, _OTHER_FIELDS),
        *_by_key(before.machine.packages, after.machine.packages),
        *_by_key(before.machine.environment, after.machine.environment),
        *([f"tool {before.tool} and {after.tool}"] if before.tool != after.tool else []),
        *([f"rounds {_rounds(before)} and {_rounds(after)}"] if _rounds(before) != _rounds(after) else []),
    ]
    if changed:
        yield f"Also different: {'; '.join(changed)}."


def _rounds(report: Report) -> int:
    return report.settings.sessions * report.settings.rounds


def _by_key(before: dict[str, str], after: dict[str, str]) -> Iterable[str]:
    for name in sorted({*before, *after}):
        versions = before.get(name, "absent"), after.get(name, "absent")
        if versions[0] != versions[1]:
            yield f"{name} {versions[0]} and {versions[1]}"


def _changed(before: MachineRecord, after: MachineRecord, fields: dict[str, str]) -> Iterable[str]:
    for field, name in fields.items():
        values = getattr(before, field), getattr(after, field)
        if values[0] != values[1]:
            yield f"{name} {_shown(values[0])} and {_shown(values[1])}"


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return "unknown" if value is None else str(value)
