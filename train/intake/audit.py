"""Judge a labelled set by the facts of its files, before training: what is kept, what is left out, and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.datasets.samples import Dataset, Sample
from train.intake.conflicts import drop_conflicts
from train.intake.facts import NOT_A_PICTURE, TRUNCATED, Facts
from train.intake.findings import Finding, Kind, Severity
from train.intake.near_duplicates import TooManyAlikeError, group_pairs, near_pairs
from train.intake.picture_format import has_wrong_suffix
from train.intake.split import LeftOut

__all__ = ["Audit", "Finding", "Kind", "Severity", "audit"]

_TINY_PX = 32
_HUGE_PIXELS = 20_000_000
_MAX_RATIO = 3.0
_FEW = 20
_MIN_GROUPS = 10
_MIN_GROUP_SIZE = 4
_IGNORED_NAME = "its name is not that of a picture"


@dataclass(frozen=True)
class Audit:
    """The verdict on a set.

    Attributes:
        findings: In the order of `Kind`.
        kept: What training may use, in the order of the set.
        left_out: Every other file that was found, pictures or not.
        groups: SHA-256 of each kept file to a key that copies and near copies of one class share: they must get the
            same part, or the test holds pictures that were trained on.
    """

    findings: tuple[Finding, ...]
    kept: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    groups: dict[str, str]


def audit(
    dataset: Dataset, samples: Sequence[Sample], facts: Mapping[str, Facts], unread: Sequence[LeftOut] = ()
) -> Audit:
    """Judge a set. Reads no files.

    Args:
        dataset: Gives the labels and the files that are no pictures by their names.
        samples: Pictures of the set, with ``sha256``.
        facts: SHA-256 of every sample to its facts.
        unread: Files that could not even be opened, to be reported with the others.

    Returns:
        The same for any order of the samples, apart from the order within.
    """
    unusable = [LeftOut(sample, problem) for sample in samples if (problem := facts[sample.sha256].problem)]
    ignored = [LeftOut(Sample(path, ""), _IGNORED_NAME) for path in dataset.ignored]
    readable = [sample for sample in samples if not facts[sample.sha256].problem]
    findings = _unusable([*unread, *unusable, *ignored])
    near: dict[str, set[str]] = {}
    try:
        near = _near(sorted({sample.sha256 for sample in readable}), facts)
    except TooManyAlikeError as error:
        findings.append(Finding(Kind.ALIKE, str(error), (), Severity.WARNING))
    sifted = drop_conflicts(readable, near)
    findings += sifted.findings
    groups, alike = _groups(sifted.kept, near)
    findings += alike
    findings += _copies(sifted.kept, groups)
    findings += _properties(readable, facts)
    findings += _balance(dataset.labels, sifted.kept)
    order = {kind: index for index, kind in enumerate(Kind)}
    findings.sort(key=lambda finding: (order[finding.kind], [str(sample.path) for sample in finding.samples[:1]]))
    return Audit(tuple(findings), sifted.kept, (*unread, *unusable, *ignored, *sifted.left_out), groups)


def _unusable(items: Sequence[LeftOut]) -> list[Finding]:
    """One finding for each reason."""
    kinds = {TRUNCATED: Kind.TRUNCATED, NOT_A_PICTURE: Kind.NOT_A_PICTURE, _IGNORED_NAME: Kind.NOT_A_PICTURE}
    by_reason: dict[str, list[Sample]] = defaultdict(list)
    for item in items:
        by_reason[item.reason].append(item.sample)
    return [
        Finding(kinds.get(reason, Kind.UNREADABLE), reason, tuple(files), Severity.ERROR)
        for reason, files in by_reason.items()
    ]


def _near(hashes: Sequence[str], facts: Mapping[str, Facts]) -> dict[str, set[str]]:
    """SHA-256 to those of the almost identical pictures, both ways."""
    near: dict[str, set[str]] = defaultdict(set)
    for first, second in near_pairs([facts[sha256] for sha256 in hashes]):
        near[hashes[first]].add(hashes[second])
        near[hashes[second]].add(hashes[first])
    return dict(near)


def _groups(kept: Sequence[Sample], near: Mapping[str, Iterable[str]]) -> tuple[dict[str, str], list[Finding]]:
    """Group near copies of one class. After the conflicts are gone, a content has one label."""
    by_label: dict[str, set[str]] = defaultdict(set)
    for sample in kept:
        by_label[sample.label].add(sample.sha256)
    groups: dict[str, str] = {}
    findings = []
    for label, contents in sorted(by_label.items()):
        hashes = sorted(contents)
        index = {sha256: number for number, sha256 in enumerate(hashes)}
        pairs = [(index[one], index[two]) for one in hashes for two in near.get(one, ()) if one < two and two in index]
        found = {
            hashes[member]: hashes[members[0]] for members in group_pairs(len(hashes), pairs) for member in members
        }
        keys = {sha256: found.get(sha256, sha256) for sha256 in hashes}
        different = len(set(keys.values()))
        if different < _MIN_GROUPS and len(hashes) >= _MIN_GROUP_SIZE * different:
            # Kept together they could not be split at all.
            message = (
                f"the {len(hashes)} pictures of {label} show only {different} that differ, so near copies end up on "
                "both sides of a split and its test flatters: add pictures of other scenes"
            )
            findings.append(Finding(Kind.ALIKE, message, (), Severity.WARNING))
            keys = {sha256: sha256 for sha256 in hashes}
        groups.update(keys)
    return groups, findings


def _copies(kept: Sequence[Sample], groups: Mapping[str, str]) -> list[Finding]:
    """Copies and near copies that stay: one finding for each picture that there is more than once."""
    by_content: dict[str, list[Sample]] = defaultdict(list)
    by_group: dict[str, list[Sample]] = defaultdict(list)
    for sample in kept:
        by_content[sample.sha256].append(sample)
        by_group[groups[sample.sha256]].append(sample)
    findings = [
        Finding(Kind.DUPLICATE, f"{len(files)} files have the same content", tuple(files), Severity.WARNING)
        for files in by_content.values()
        if len(files) > 1
    ]
    return findings + [
        Finding(Kind.NEAR_DUPLICATE, f"{len(files)} files show almost the same picture", tuple(files), Severity.WARNING)
        for files in by_group.values()
        if len({sample.sha256 for sample in files}) > 1
    ]


def _properties(readable: Sequence[Sample], facts: Mapping[str, Facts]) -> list[Finding]:
    """What is odd about single pictures that can be used; one finding for all of a kind."""
    tiny, huge = [], []
    renamed: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for sample in readable:
        entry = facts[sample.sha256]
        if min(entry.width_px, entry.height_px) < _TINY_PX:
            tiny.append(sample)
        if entry.width_px * entry.height_px > _HUGE_PIXELS:
            huge.append(sample)
        if has_wrong_suffix(sample.path, entry.format):
            renamed[sample.path.suffix.lower(), entry.format].append(sample)
    findings = []
    if tiny:
        message = f"{len(tiny)} of {len(readable)} pictures have a side under {_TINY_PX} pixels"
        findings.append(Finding(Kind.TINY, message, tuple(tiny), Severity.WARNING))
    if huge:
        message = f"{len(huge)} of {len(readable)} pictures have more than {_HUGE_PIXELS // 1_000_000} million pixels"
        findings.append(Finding(Kind.HUGE, message, tuple(huge), Severity.WARNING))
    for (suffix, format_name), files in sorted(renamed.items()):
        message = f"{format_name.upper()} by content, but named {suffix or 'without ending'}"
        findings.append(Finding(Kind.WRONG_SUFFIX, message, tuple(files), Severity.WARNING))
    return findings


def _balance(labels: Sequence[str], kept: Sequence[Sample]) -> list[Finding]:
    """Classes that are small, absolutely or beside the largest. Copies of a file count once."""
    counts = Counter(label for label, _ in {(sample.label, sample.sha256) for sample in kept})
    smallest, largest = min(labels, key=lambda label: counts[label]), max(labels, key=lambda label: counts[label])
    findings = []
    if counts[largest] > _MAX_RATIO * counts[smallest]:
        share = counts[largest] / sum(counts.values())
        message = (
            f"{largest} has {counts[largest]} pictures and {smallest} {counts[smallest]}: "
            f"always answering {largest} would already be right for {share:.0%}"
        )
        findings.append(Finding(Kind.UNBALANCED, message, (), Severity.WARNING))
    few = [f"{label} {counts[label]}" for label in labels if counts[label] < _FEW]
    if few:
        message = f"fewer than {_FEW} different pictures: {', '.join(few)}"
        findings.append(Finding(Kind.FEW, message, (), Severity.WARNING))
    return findings
