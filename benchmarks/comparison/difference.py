"""Compare two reports, model by model, and judge all differences together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.comparison.accuracy import Pairing, accuracy_difference, pair_answers
from benchmarks.comparison.comparability import Comparability, find_comparability
from benchmarks.comparison.metrics import (
    COLD_START,
    OFFLINE,
    Reference,
    find_drift,
    find_reference,
    is_disturbed,
    judge,
    latency_differences,
    rule_differences,
    size_difference,
)
from benchmarks.comparison.record import (
    ALPHA,
    Comparison,
    Difference,
    Limits,
    Outcome,
    Side,
    SubjectComparison,
    Unit,
    Unmatched,
    is_beyond,
)
from benchmarks.plan import KERAS_FUNCTION, KERAS_PREDICT, KERAS_SUBJECTS
from benchmarks.records import Answers, NotMeasured, Performance, Report, SubjectResult
from benchmarks.statistics import holm
from edge_runtime.errors import ComparisonError
from edge_runtime.workstation.reporting.wording import counted, joined

_Subjects = Mapping[str, SubjectResult]


@dataclass(frozen=True)
class Context:
    """Conditions for every subject of a comparison.

    Attributes:
        comparability: Parts of the reports that may be compared.
        pairing: Answers image by image, or None.
        reference: Model that latencies are divided by, or None.
        not_judged: Names of the metrics that are shown only, because the machine drifted.
        limits: Largest changes for the worse that pass.
    """

    comparability: Comparability
    pairing: Pairing | None
    reference: Reference | None
    not_judged: frozenset[str]
    limits: Limits


def compare_reports(
    before: Report,
    after: Report,
    answers_before: Answers | None,
    answers_after: Answers | None,
    limits: Limits,
    *,
    names: tuple[str, str] = ("A", "B"),
    reference: str = KERAS_FUNCTION,
) -> Comparison:
    """Compare two reports, subject by subject, and judge the second against the first.

    Answers are None where they are missing, ``names`` are those of the two reports for the reader, and ``reference``
    is the subject that shows the speed of the machine.

    Raises:
        ComparisonError: A report is marked invalid, or the two have no model in common.
    """
    for report, name in ((before, names[0]), (after, names[1])):
        if report.invalid:
            raise ComparisonError(
                f"{name}: expected a sound report, got one that is marked invalid ({report.invalid[0].rstrip('.')}), "
                "which can neither pass nor fail; measure again"
            )
    first, second = ({subject.name: subject for subject in report.subjects} for report in (before, after))
    comparability = find_comparability(before, after)
    same_machine = comparability.same_machine
    pairing, remark = pair_answers(answers_before, answers_after, same_images=comparability.same_images)
    found = _choose_reference(reference, first, second, limits)
    usable = found if isinstance(found, Reference) and same_machine else None
    drifts = dict(_find_drifts(usable, first, second, limits)) if same_machine else {}
    context = Context(comparability, pairing, usable, frozenset(drifts), limits)
    subjects, smallest_p = _compare_subjects(first, second, context)
    gone = _gone(first, second) if same_machine else ()
    if not subjects and not gone:
        raise ComparisonError(
            f"{names[0]} and {names[1]}: expected two reports with measured models in common, got none; "
            "compare two reports of one bundle"
        )
    tests = sum(item.p is not None for subject in subjects for item in subject.differences)
    judged = _judge_together(subjects)
    return Comparison(
        before=_side(names[0], before),
        after=_side(names[1], after),
        limits=limits,
        reference=usable.name if usable else None,
        method=(*(_on_latency(found) if same_machine else ()), *_on_tests(tests, smallest_p)),
        differences=(*comparability.differences, *remark),
        not_compared=(*comparability.not_compared, *dict.fromkeys(drifts.values())),
        subjects=judged,
        only_before=_alone(first, second),
        only_after=_alone(second, first),
        in_neither=_in_neither(first, second),
        regressions=(*gone, *_sentences(judged, Outcome.REGRESSION)),
        unsure=_sentences(judged, Outcome.UNSURE),
    )


def _side(name: str, report: Report) -> Side:
    return Side(
        name=name,
        created_utc=report.created_utc,
        tool=report.tool,
        model_name=report.model_name,
        cpu_model=report.machine.cpu_model,
        images=report.data.images,
    )


def _choose_reference(name: str, before: _Subjects, after: _Subjects, limits: Limits) -> Reference | str:
    """Open the reference, or give the reason, as the end of a sentence, why there is none."""
    found = find_reference(name, before.get(name), after.get(name))
    if isinstance(found, Reference):
        names = [key for key in before if key in after and key not in (name, *KERAS_SUBJECTS)]
        pairs = [(before[key].performance, after[key].performance) for key in names]
        if is_disturbed(found, [(first, second) for first, second in pairs if first and second], limits):
            return f"{name} was disturbed on its own and would make them less certain"
    return found


def _find_drifts(
    reference: Reference | None, before: _Subjects, after: _Subjects, limits: Limits
) -> Iterator[tuple[str, NotMeasured]]:
    """Find the metrics that cannot be judged, each with the reason, because Keras too had another speed."""
    if reference is not None and is_beyond(abs(reference.drift), limits.max_slowdown):
        reason = f"{reference.name} took {_longer(reference.drift)}: the machine itself had another speed"
        for metric in (OFFLINE, COLD_START):
            yield metric, NotMeasured("throughput and cold start, which are shown and not judged", reason)
        return
    for metric, name, what in (
        (OFFLINE, KERAS_PREDICT, "for a folder: all cores together had another speed"),
        (COLD_START, KERAS_FUNCTION, "to start: programs started at another speed"),
    ):
        drift = find_drift(metric, before.get(name), after.get(name))
        if drift is not None and is_beyond(abs(drift), limits.max_slowdown):
            reason = f"{name} took {_longer(drift)} {what}"
            yield metric, NotMeasured(f"{metric}, which is shown and not judged", reason)


def _longer(drift: float) -> str:
    """Write a change of time, such as ``3.1 % longer``."""
    return f"{abs(100 * drift):.1f} % {'longer' if drift >= 0 else 'less time'}"


def _compare_subjects(
    before: _Subjects, after: _Subjects, context: Context
) -> tuple[list[SubjectComparison], dict[str, float]]:
    """Compare all subjects that both measured.

    Returns:
        The subjects, not yet judged together, and by subject the smallest p value that its latency can have.
    """
    subjects, smallest_p = [], {}
    for name, first in before.items():
        second = after.get(name)
        if second is None or first.performance is None or second.performance is None:
            continue
        differences, missing, least = _compare_subject(first, second, (first.performance, second.performance), context)
        if name in KERAS_SUBJECTS:  # not what is shipped
            differences = [dataclasses.replace(item, p=None, outcome=Outcome.SHOWN) for item in differences]
        elif least is not None:
            smallest_p[name] = least
        same_file = bool(first.sha256) and first.sha256 == second.sha256
        notes = tuple(_notes(first.performance, second.performance))
        subjects.append(SubjectComparison(name, same_file, tuple(differences), tuple(missing), notes))
    return subjects, smallest_p


def _compare_subject(
    before: SubjectResult, after: SubjectResult, performances: tuple[Performance, Performance], context: Context
) -> tuple[list[Difference], list[NotMeasured], float | None]:
    first, second = performances
    limits = context.limits
    differences: list[Difference] = []
    missing: list[NotMeasured] = []
    smallest_p = None
    if context.comparability.same_labels:
        shares = first.accuracy.top1, second.accuracy.top1
        differences.append(accuracy_difference(before.name, *shares, context.pairing, limits))
    if context.comparability.same_machine:
        is_reference = context.reference is not None and context.reference.name == before.name
        reference = None if is_reference else context.reference
        latencies, smallest_p = latency_differences(first, second, reference, limits)
        by_rule, missing = rule_differences(first, second, limits, context.not_judged)
        differences += [*latencies, *by_rule]
    if before.bytes and after.bytes:
        differences.append(size_difference(before.bytes, after.bytes, limits))
    return differences, missing, smallest_p


def _notes(before: Performance, after: Performance) -> Iterator[str]:
    if before.runtime != after.runtime:
        yield f"ran on {before.runtime}, then on {after.runtime}"
    if before.delegate != after.delegate:
        delegates = [item.delegate or "an unknown delegate" for item in (before, after)]
        yield f"its operators ran on {delegates[0]}, then on {delegates[1]}"


def _judge_together(subjects: Sequence[SubjectComparison]) -> tuple[SubjectComparison, ...]:
    """Adjust the p values of all tests as one family, since one exit code follows from all of them."""
    adjusted = iter(holm([item.p for subject in subjects for item in subject.differences if item.p is not None]))

    def judged(item: Difference) -> Difference:
        if item.p is None:
            return item
        p = next(adjusted)
        worse_by = -item.change if item.unit is Unit.PERCENT else item.change
        return dataclasses.replace(item, p=p, outcome=judge(worse_by, item.limit, is_sure=p <= ALPHA))

    return tuple(
        dataclasses.replace(subject, differences=tuple(map(judged, subject.differences))) for subject in subjects
    )


def _sentences(subjects: Sequence[SubjectComparison], outcome: Outcome) -> tuple[str, ...]:
    return tuple(
        f"{subject.name}: {item.describe()}"
        for subject in subjects
        for item in subject.differences
        if item.outcome is outcome
    )


def _gone(before: _Subjects, after: _Subjects) -> tuple[str, ...]:
    """List the models that could be measured and no longer can, on the same machine."""
    return tuple(
        f"{name}: was measured and no longer can be: {_reason(after[name]).rstrip('.')}."
        for name, first in before.items()
        if first.performance is not None and name in after and after[name].performance is None
    )


def _alone(own: _Subjects, other: _Subjects) -> tuple[Unmatched, ...]:
    return tuple(
        Unmatched(name, _reason(other[name]) if name in other else "not in the other report")
        for name, subject in own.items()
        if subject.performance is not None and (name not in other or other[name].performance is None)
    )


def _in_neither(before: _Subjects, after: _Subjects) -> tuple[Unmatched, ...]:
    measured = {item.name for item in (*before.values(), *after.values()) if item.performance is not None}
    both = {**before, **after}
    return tuple(Unmatched(name, _reason(item)) for name, item in both.items() if name not in measured)


def _reason(subject: SubjectResult) -> str:
    return subject.error or "no reason given"


def _on_latency(found: Reference | str) -> Iterator[str]:
    if not isinstance(found, Reference):
        yield (
            f"Latencies are judged by themselves, because {found}; a machine that is slower on another day then looks "
            "like a regression."
        )
        return
    yield (
        f"Latencies are judged against {found.name}, which was timed in the same rounds of each report, because "
        f"machines drift; {found.name} itself took {_longer(found.drift)} in the second report."
    )


def _on_tests(tests: int, smallest_p: Mapping[str, float]) -> Iterator[str]:
    hopeless = [name for name, p in smallest_p.items() if p * tests > ALPHA]
    if hopeless:
        yield (
            f"Too few rounds: among {counted(tests, 'test')} no latency of {joined(hopeless)} can be significantly "
            "slower; measure without --quick, or fewer models."
        )
    yield (
        f"P values are adjusted after Holm for {counted(tests, 'test')} of accuracy and latency together: "
        "if nothing changed, at most 1 comparison in 20 calls anything a difference. Intervals are 95 % each and not "
        "adjusted. What has no p value is judged by its limit and the rule that its method names. Keras is shown and "
        "not judged."
    )
