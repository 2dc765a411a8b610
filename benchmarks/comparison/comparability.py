"""Comparability of two reports: differences in machine, settings, data and models, and the metrics they rule out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from benchmarks.machine import SOFTWARE_FIELDS, SPEED_FIELDS
from benchmarks.records import NotMeasured, Report

_OTHER_FIELDS = {"cores_total": "cores", "memory_bytes": "memory", **SOFTWARE_FIELDS, "git_revision": "revision"}


@dataclass(frozen=True)
class Comparability:
    """Parts of two reports that may be compared.

    Attributes:
        same_machine: True if times and memory are of one kind of machine with one number of threads.
        same_labels: True if accuracies are of the same labels.
        same_images: True if accuracies are of the same images.
        differences: One sentence for each difference, most important first.
        not_compared: Metrics that are therefore not compared.
    """

    same_machine: bool
    same_labels: bool
    same_images: bool
    differences: tuple[str, ...]
    not_compared: tuple[NotMeasured, ...]


def find_comparability(before: Report, after: Report) -> Comparability:
    """Compare everything but the figures."""
    speeds = [{**_machine(one, SPEED_FIELDS), "threads": str(one.settings.threads)} for one in (before, after)]
    speed = "; ".join(_changes(*speeds))
    same_labels = set(before.data.images_per_label) == set(after.data.images_per_label)
    same_images = before.data.sha256 == after.data.sha256
    differences: list[str] = []
    not_compared: list[NotMeasured] = []
    if speed:
        differences.append(f"NOT THE SAME MACHINE OR SETTING ({speed}): times, throughput and memory are not compared.")
        not_compared.append(NotMeasured("latency, throughput, cold start, memory, install size", speed))
    if not same_labels:
        differences.append("OTHER LABELS: accuracies are not compared.")
        not_compared.append(NotMeasured("accuracy", "the reports' images have other labels"))
    elif not same_images:
        differences.append(
            f"OTHER IMAGES ({before.data.source}, {before.data.images}, and {after.data.source}, "
            f"{after.data.images}): accuracies are compared as those of two samples, so a difference may also be one "
            "between the images."
        )
    differences += _other_models(before, after)
    changed = "; ".join(_changes(_software(before), _software(after)))
    if changed:
        differences.append(f"Also different: {changed}.")
    return Comparability(not speed, same_labels, same_images, tuple(differences), tuple(not_compared))


def _machine(report: Report, fields: Mapping[str, str]) -> dict[str, str]:
    return {name: _shown(getattr(report.machine, field)) for field, name in fields.items()}


def _software(report: Report) -> dict[str, str]:
    machine = report.machine
    settings = {"tool": report.tool, "rounds": str(report.settings.sessions * report.settings.rounds)}
    return {**_machine(report, _OTHER_FIELDS), **machine.packages, **machine.environment, **settings}


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        values = before.get(name, "absent"), after.get(name, "absent")
        if values[0] != values[1]:
            yield f"{name} {values[0]} and {values[1]}"


def _other_models(before: Report, after: Report) -> Iterator[str]:
    if before.model_name != after.model_name:
        yield f"OTHER MODEL: {before.model_name} and {after.model_name}; the differences are those between two models."
    elif before.bundle_manifest_sha256 != after.bundle_manifest_sha256:
        yield "The bundle was made anew between the reports."
    if before.keras_sha256 and after.keras_sha256 and before.keras_sha256 != after.keras_sha256:
        yield "The Keras model was trained anew between the reports."


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return "unknown" if value is None else str(value)
