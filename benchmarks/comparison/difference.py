"""Compare two reports, model by model; no files, no clocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from benchmarks.comparison.accuracy import Answers, Pairing, accuracy_difference, pair_answers
from benchmarks.comparison.comparability import Comparability, find_comparability
from benchmarks.comparison.judging import Draft, judge, sentences, tests_of, without_hope
from benchmarks.comparison.record import Comparison, Difference, Limits, Outcome, Side, SubjectComparison, Unmatched
from benchmarks.comparison.times import (
    Reference,
    cold_start_difference,
    find_reference,
    folder_drift,
    is_beyond,
    is_disturbed,
    latency_differences,
    offline_difference,
    size_difference,
    start_drift,
)
from benchmarks.plan import KERAS_FUNCTION, KERAS_PREDICT, KERAS_SUBJECTS
from benchmarks.records import NotMeasured, Performance, Report, SubjectResult
from edge_runtime.errors import ComparisonError
from edge_runtime.workstation.reporting.wording import counted

_IN_ONE = "measured in one report only"


@dataclass(frozen=True)
class Context:
    """What holds for every subject of a comparison.

    Attributes:
        grounds: What may be compared.
        pairing: Answers image by image, or None.
        reference: The model that latencies are divided by, or None.
        folder_drift: How much longer ``keras-predict`` took for a folder in the second report, as a share, or None.
        start_drift: How much longer ``keras-function`` took for a cold start in it, or None.
        limits: How much worse a figure may be.
    """

    grounds: Comparability
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
    """Compare two reports, subject by subject.

    Args:
        before: The first report.
        after: The second; worse means worse than the first.
        answers_before: Answers of the first, or None where they are missing.
        answers_after: Answers of the second, or None.
        limits: How much worse the second may be.
        names: What the reports are called.
        reference: The subject that shows how fast the machine was.

    Raises:
        ComparisonError: A report is marked invalid, or the two have no model in common.
    """
    _check_valid(before, names[0])
    _check_valid(after, names[1])
    first, second = ({subject.name: subject for subject in report.subjects} for report in (before, after))
    grounds = find_comparability(before, after)
    pairing, remark = pair_answers(answers_before, answers_after, same_images=grounds.same_images)
    found = _find_reference(reference, first, second, limits)
    usable = found if isinstance(found, Reference) and grounds.same_machine else None
    folders = folder_drift(first.get(KERAS_PREDICT), second.get(KERAS_PREDICT)) if grounds.same_machine else None
    starts = start_drift(first.get(KERAS_FUNCTION), second.get(KERAS_FUNCTION)) if grounds.same_machine else None
    context = Context(grounds, pairing, usable, folders, starts, limits)
    drafts = _draft_subjects(first, second, context)
    gone = _gone(first, second) if grounds.same_machine else ()
    if not drafts and not gone:
        raise ComparisonError(
            f"{names[0]} and {names[1]}: expected two reports with measured models in common, got none; "
            "compare two reports of one bundle"
        )
    subjects = judge(drafts)
    return Comparison(
        before=_side(names[0], before),
        after=_side(names[1], after),
        limits=limits,
        reference=usable.name if usable else None,
        method=tuple(_method(found, context, drafts)),
        differences=(*grounds.differences, *remark),
        not_compared=(*grounds.not_compared, *_drifted(context)),
        subjects=subjects,
        only_before=_alone(first, second),
        only_after=_alone(second, first),
        in_neither=_in_neither(first, second),
        regressions=(*gone, *sentences(subjects, Outcome.REGRESSION)),
        unsure=sentences(subjects, Outcome.UNSURE),
    )


def _check_valid(report: Report, name: str) -> None:
    if report.invalid:
        raise ComparisonError(
            f"{name}: expected a sound report, got one that is marked invalid ({report.invalid[0].rstrip('.')}), which "
            "can neither pass nor fail; measure again"
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


def _find_reference(
    name: str, before: Mapping[str, SubjectResult], after: Mapping[str, SubjectResult], limits: Limits
) -> Reference | str:
    found = find_reference(name, before.get(name), after.get(name))
    if isinstance(found, Reference):
        names = [key for key in before if key in after and key not in (name, *KERAS_SUBJECTS)]
        pairs = [(before[key].performance, after[key].performance) for key in names]
        if is_disturbed(found, [(first, second) for first, second in pairs if first and second], limits):
            return f"{name} was disturbed on its own and would make them less certain"
    return found


def _draft_subjects(
    before: Mapping[str, SubjectResult], after: Mapping[str, SubjectResult], context: Context
) -> list[Draft]:
    drafts = []
    for name, first in before.items():
        second = after.get(name)
        if second is not None and first.performance is not None and second.performance is not None:
            drafts.append(compare_subject(first, second, (first.performance, second.performance), context))
    return drafts


def _gone(before: Mapping[str, SubjectResult], after: Mapping[str, SubjectResult]) -> tuple[str, ...]:
    """Models that could be measured and no longer can, on the same machine."""
    return tuple(
        f"{name}: was measured and no longer can be: {(after[name].error or 'no reason given').rstrip('.')}."
        for name, first in before.items()
        if first.performance is not None and name in after and after[name].performance is None
    )


def _alone(own: Mapping[str, SubjectResult], other: Mapping[str, SubjectResult]) -> tuple[Unmatched, ...]:
    return tuple(
        Unmatched(name, (other[name].error or "no reason given") if name in other else "not in the other report")
        for name, subject in own.items()
        if subject.performance is not None and (name not in other or other[name].performance is None)
    )


def _in_neither(before: Mapping[str, SubjectResult], after: Mapping[str, SubjectResult]) -> tuple[Unmatched, ...]:
    found = {
        name: [subjects[name] for subjects in (before, after) if name in subjects]
        for name in dict.fromkeys([*before, *after])
    }
    return tuple(
        Unmatched(name, subjects[-1].error or "no reason given")
        for name, subjects in found.items()
        if all(subject.performance is None for subject in subjects)
    )


def _method(found: Reference | str, context: Context, drafts: list[Draft]) -> Iterable[str]:
    if context.grounds.same_machine:
        yield from _on_latency(found)
    yield from without_hope(drafts)
    yield (
        f"P values are adjusted after Holm for {counted(tests_of(drafts), 'test')} of accuracy and latency together: "
        "if nothing changed, at most 1 comparison in 20 calls anything a difference. Intervals are 95 % each and not "
        "adjusted. What has no p value is judged by its limit and the rule that its method names. Keras is shown and "
        "not judged."
    )


def _on_latency(found: Reference | str) -> Iterable[str]:
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


def _drifted(context: Context) -> Iterable[NotMeasured]:
    if context.reference is not None and context.has_drifted:
        yield NotMeasured(
            "throughput and cold start, which are shown and not judged",
            f"{context.reference.name} took {_longer(context.reference.drift)}: the machine itself had another speed",
        )
        return
    if context.folder_drift is not None and context.has_folder_drifted:
        yield NotMeasured(
            "offline throughput, which is shown and not judged",
            f"{KERAS_PREDICT} took {_longer(context.folder_drift)} for a folder: all cores together had another speed",
        )
    if context.start_drift is not None and context.have_starts_drifted:
        yield NotMeasured(
            "cold start, which is shown and not judged",
            f"{KERAS_FUNCTION} took {_longer(context.start_drift)} to start: programs started at another speed",
        )


def _longer(drift: float) -> str:
    """A change of time in words, such as ``3.1 % longer``."""
    return f"{abs(100 * drift):.1f} % {'longer' if drift >= 0 else 'less time'}"
