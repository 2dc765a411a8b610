"""Judge all differences of a comparison together, and describe each regression."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.comparison.record import ALPHA, Difference, Outcome, SubjectComparison, Unit
from benchmarks.comparison.times import is_beyond
from benchmarks.statistics import holm
from edge_runtime.workstation.reporting.wording import counted, joined, megabytes, p_value, signed, significant


@dataclass(frozen=True)
class Draft:
    """A subject whose tests are not judged yet, because that needs all of them.

    Attributes:
        subject: With p values that are not adjusted.
        tests: Which of its differences are tested; the p values of the others do not count.
        smallest_p: The smallest p value that its latency could have; None where that is not tested.
    """

    subject: SubjectComparison
    tests: tuple[int, ...] = ()
    smallest_p: float | None = None


def judge(drafts: Sequence[Draft]) -> tuple[SubjectComparison, ...]:
    """Adjust the p values of all tests as one family, since one exit code follows from all of them."""
    raw = [draft.subject.differences[index].p for draft in drafts for index in draft.tests]
    adjusted = iter(holm([1.0 if p is None else p for p in raw]))
    judged = []
    for draft in drafts:
        p_of = {index: next(adjusted) for index in draft.tests}
        differences = tuple(
            _judge(item, p_of[index]) if index in p_of else dataclasses.replace(item, p=None)
            for index, item in enumerate(draft.subject.differences)
        )
        judged.append(dataclasses.replace(draft.subject, differences=differences))
    return tuple(judged)


def tests_of(drafts: Sequence[Draft]) -> int:
    """How many tests they are together."""
    return sum(len(draft.tests) for draft in drafts)


def without_hope(drafts: Sequence[Draft]) -> Iterable[str]:
    """A sentence on latencies that could not differ surely, whatever they had been."""
    tests = tests_of(drafts)
    names = [item.subject.name for item in drafts if item.smallest_p is not None and item.smallest_p * tests > ALPHA]
    if names:
        yield (
            f"Too few rounds: among {counted(tests, 'test')} no latency of {joined(names)} can be surely slower; "
            "measure without --quick, or fewer models."
        )


def sentences(subjects: Sequence[SubjectComparison], outcome: Outcome) -> tuple[str, ...]:
    """One for each difference with this outcome."""
    return tuple(
        f"{subject.name}: {describe(item)}"
        for subject in subjects
        for item in subject.differences
        if item.outcome is outcome
    )


def describe(item: Difference) -> str:
    """A difference as the rest of a sentence."""
    sure = "" if item.p is None else f", p {p_value(item.p)}"
    return (
        f"{item.metric} {figure(item.before, item.unit)} -> {figure(item.after, item.unit)} ({change(item)}{sure}; "
        f"limit {limit(item)})."
    )


def figure(value: float, unit: Unit) -> str:
    """A figure with its unit."""
    if unit is Unit.BYTES:
        return megabytes(int(value))
    if unit is Unit.PERCENT:
        return f"{value:.1f} %"
    return f"{significant(value)} {unit.value}"


def change(item: Difference) -> str:
    """The change with its unit, such as ``-3.0 points`` or ``+20.4 %``."""
    return f"{signed(item.change, 1)} {change_unit(item)}"


def limit(item: Difference) -> str:
    """The limit with its unit, such as ``1 point`` or ``10 %``."""
    unit = change_unit(item)
    return f"{item.limit:.3g} {'point' if unit == 'points' and item.limit == 1 else unit}"


def change_unit(item: Difference) -> str:
    """Of the change and the limit."""
    return "points" if item.unit is Unit.PERCENT else "%"


def _judge(item: Difference, p: float) -> Difference:
    worse_by = -item.change if item.unit is Unit.PERCENT else item.change
    is_sure = p <= ALPHA
    outcome = Outcome.WITHIN
    if is_beyond(worse_by, item.limit):
        outcome = Outcome.REGRESSION if is_sure else Outcome.UNSURE
    elif is_sure and is_beyond(-worse_by, item.limit):
        outcome = Outcome.IMPROVEMENT
    return dataclasses.replace(item, p=p, outcome=outcome)
