"""One model in both reports: all its figures, and what could not be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.comparison.accuracy import Pairing, accuracy_difference
from benchmarks.comparison.grounds import Grounds
from benchmarks.comparison.judging import Draft
from benchmarks.comparison.record import Difference, Limits, Outcome, SubjectComparison
from benchmarks.comparison.times import (
    Reference,
    cold_start_difference,
    is_beyond,
    latency_differences,
    offline_difference,
    size_difference,
)
from benchmarks.plan import KERAS_SUBJECTS
from benchmarks.records.performance import NotMeasured, Performance, SubjectResult

_IN_ONE = "measured in one report only"


@dataclass(frozen=True)
class Context:
    """What holds for every subject of a comparison.

    Attributes:
        grounds: What may be compared.
        pairing: Answers picture by picture, or None.
        reference: The model that latencies are divided by, or None.
        folder_drift: How much longer ``keras-predict`` took for a folder in the second report, as a share, or None.
        start_drift: How much longer ``keras-function`` took for a cold start in it, or None.
        limits: How much worse a figure may be.
    """

    grounds: Grounds
    pairing: Pairing | None
    reference: Reference | None
    folder_drift: float | None
    start_drift: float | None
    limits: Limits

    @property
    def has_drifted(self) -> bool:
        """Whether the reference says that the machine itself had another speed."""
        return self.reference is not None and is_beyond(abs(self.reference.drift), self.limits.max_slowdown)

    @property
    def has_folder_drifted(self) -> bool:
        """Whether ``keras-predict`` says that all cores together had another speed."""
        return self.folder_drift is not None and is_beyond(abs(self.folder_drift), self.limits.max_slowdown)

    @property
    def have_starts_drifted(self) -> bool:
        """Whether ``keras-function`` says that programs started at another speed."""
        return self.start_drift is not None and is_beyond(abs(self.start_drift), self.limits.max_slowdown)


def compare_subject(
    before: SubjectResult, after: SubjectResult, performances: tuple[Performance, Performance], context: Context
) -> Draft:
    """Everything about one model; the full model is shown and not judged, since it is not what is shipped."""
    first, second = performances
    differences: list[Difference] = []
    missing: list[NotMeasured] = []
    tests: list[int] = []
    smallest_p = None
    if context.grounds.same_labels:
        tests.append(len(differences))
        shares = first.accuracy.top1, second.accuracy.top1
        differences.append(accuracy_difference(before.name, *shares, context.pairing, context.limits))
    if context.grounds.same_machine:
        tests.append(len(differences))
        is_reference = context.reference is not None and context.reference.name == before.name
        latencies, smallest_p = latency_differences(
            first, second, None if is_reference else context.reference, context.limits
        )
        differences += latencies
        found, missing = _by_rule(first, second, context)
        differences += found
    if before.bytes and after.bytes:
        differences.append(size_difference("file size", before.bytes, after.bytes, context.limits))
    is_judged = before.name not in KERAS_SUBJECTS
    if not is_judged:
        differences = [dataclasses.replace(item, outcome=Outcome.SHOWN) for item in differences]
    subject = SubjectComparison(
        name=before.name,
        same_file=bool(before.sha256) and before.sha256 == after.sha256,
        differences=tuple(differences),
        not_compared=tuple(missing),
        notes=tuple(_notes(first, second)),
    )
    return Draft(subject, tuple(tests), smallest_p) if is_judged else Draft(subject)


def _by_rule(before: Performance, after: Performance, context: Context) -> tuple[list[Difference], list[NotMeasured]]:
    """Figures without a test: throughput, cold start, memory, install size."""
    limits = context.limits
    start = cold_start_difference(before.cold_start, after.cold_start, limits)
    timed = [dataclasses.replace(start, outcome=Outcome.SHOWN) if context.have_starts_drifted else start]
    missing = []
    if before.offline is None or after.offline is None:
        missing += _lost("offline throughput", before.offline, after.offline)
    elif before.offline.workers != after.offline.workers:
        workers = f"{before.offline.workers} and {after.offline.workers} workers"
        missing.append(NotMeasured("offline throughput", workers))
    else:
        found = offline_difference(before.offline, after.offline, limits)
        timed.insert(0, dataclasses.replace(found, outcome=Outcome.SHOWN) if context.has_folder_drifted else found)
    if context.has_drifted:
        timed = [dataclasses.replace(item, outcome=Outcome.SHOWN) for item in timed]
    sizes = []
    for metric, first, second in (
        ("peak memory", before.resources.peak_memory_bytes, after.resources.peak_memory_bytes),
        ("install size", before.resources.install_bytes, after.resources.install_bytes),
    ):
        if first and second:
            sizes.append(size_difference(metric, first, second, limits))
        else:
            missing += _lost(metric, first, second)
    return [*timed, *sizes], missing


def _lost(what: str, before: object, after: object) -> list[NotMeasured]:
    """What neither report has, the reports themselves explain."""
    return [NotMeasured(what, _IN_ONE)] if (before is None) != (after is None) else []


def _notes(before: Performance, after: Performance) -> Iterable[str]:
    if before.runtime != after.runtime:
        yield f"ran on {before.runtime}, then on {after.runtime}"
    if before.delegate != after.delegate:
        yield f"its operators ran on {before.delegate or 'an unknown delegate'}, then on " + (
            after.delegate or "an unknown delegate"
        )
