"""Leave out pictures that would make a measurement dishonest: one picture under two labels, or in two parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from edge_runtime.datasets.samples import Sample, Split
from train.intake.findings import Finding, Kind, Severity
from train.intake.near_duplicates import group_pairs
from train.intake.split import LeftOut

_HELD_OUT = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
# A hundred frames of one scene are almost the same picture in every class. Where likeness is the rule rather than a
# slip, it decides nothing. Identical files are always a slip.
_MAX_NEAR_SHARE = 0.2
_MIN_NEAR_LIMIT = 10


@dataclass(frozen=True)
class Sifted:
    """What is kept, in the given order, what is left out, and why."""

    kept: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]


def drop_conflicts(samples: Sequence[Sample], near: Mapping[str, Collection[str]]) -> Sifted:
    """Sift out conflicts.

    The same picture under two labels is left out altogether, since one label is wrong. The same picture in two given
    parts is kept where it is held out furthest (test, then validation), and left out of the other.

    Args:
        samples: Readable ones, with ``sha256``; ``split`` may be None.
        near: SHA-256 to those of the pictures that are almost the same.
    """
    labels = _sift(samples, near, _has_other_label, Kind.TWO_CLASSES)
    parts = _sift(labels.kept, near, _is_held_out_further, Kind.LEAKAGE)
    return Sifted(parts.kept, labels.left_out + parts.left_out, labels.findings + parts.findings)


def _has_other_label(sample: Sample, other: Sample) -> bool:
    return sample.label != other.label


def _is_held_out_further(sample: Sample, other: Sample) -> bool:
    return sample.split is not None and other.split is not None and _HELD_OUT[other.split] > _HELD_OUT[sample.split]


def _sift(
    samples: Sequence[Sample],
    near: Mapping[str, Collection[str]],
    conflicts: Callable[[Sample, Sample], bool],
    kind: Kind,
) -> Sifted:
    """Leave out every sample for which another one of the same picture ``conflicts(sample, other)``."""
    # One file per content, label and part stands for all its copies, of which there may be thousands.
    by_content: dict[str, dict[tuple[str, Split | None], Sample]] = {}
    for sample in samples:
        by_content.setdefault(sample.sha256, {}).setdefault((sample.label, sample.split), sample)

    def partners(sample: Sample, contents: Collection[str]) -> list[Sample]:
        others = [other for content in sorted(contents) for other in by_content.get(content, {}).values()]
        return [other for other in others if conflicts(sample, other)]

    same = {sample: partners(sample, [sample.sha256]) for sample in samples}
    almost = {sample: partners(sample, near.get(sample.sha256, ())) for sample in samples if not same[sample]}
    near_count = sum(map(bool, almost.values()))
    findings: list[Finding] = []
    if near_count > max(_MIN_NEAR_LIMIT, _MAX_NEAR_SHARE * len(samples)):
        findings.append(_too_many(near_count, len(samples), kind))
        almost = {}
    left_out = [
        LeftOut(sample, _same_reason(found, kind) if same[sample] else _almost_reason(found[0], kind))
        for sample in samples
        if (found := same[sample] or almost.get(sample, []))
    ]
    gone = {item.sample for item in left_out}
    links = {sample: same[sample] + almost.get(sample, []) for sample in gone}
    findings += _findings(samples, links, kind)
    return Sifted(tuple(sample for sample in samples if sample not in gone), tuple(left_out), tuple(findings))


def _same_reason(found: Sequence[Sample], kind: Kind) -> str:
    if kind is Kind.TWO_CLASSES:
        return f"the same file is also labelled {', '.join(sorted({other.label for other in found}))}"
    return f"the same file is also in {_furthest(found)}, where it stays"


def _almost_reason(other: Sample, kind: Kind) -> str:
    if kind is Kind.TWO_CLASSES:
        return f"almost the same picture is labelled {other.label}: {other.path}"
    return f"almost the same picture is in {_furthest([other])}: {other.path}"


def _furthest(found: Sequence[Sample]) -> str:
    splits = [other.split for other in found if other.split is not None]
    return max(splits, key=_HELD_OUT.__getitem__).value


def _findings(samples: Sequence[Sample], links: Mapping[Sample, Sequence[Sample]], kind: Kind) -> list[Finding]:
    """One finding per picture, with all its files."""
    position = {sample: index for index, sample in enumerate(samples)}
    pairs = {(position[sample], position[other]) for sample, others in links.items() for other in others}
    findings = []
    for group in group_pairs(len(samples), sorted((min(pair), max(pair)) for pair in pairs)):
        members = tuple(samples[index] for index in group)
        same = "the same file is" if len({member.sha256 for member in members}) == 1 else "almost the same picture is"
        if kind is Kind.TWO_CLASSES:
            message = f"{same} labelled {' and '.join(sorted({member.label for member in members}))}"
        else:
            splits = sorted({member.split for member in members if member.split}, key=_HELD_OUT.__getitem__)
            message = f"{same} in {' and '.join(split.value for split in splits)}"
        findings.append(Finding(kind, message, members, Severity.ERROR))
    return findings


def _too_many(count: int, total: int, kind: Kind) -> Finding:
    where = "class" if kind is Kind.TWO_CLASSES else "part of the set"
    message = (
        f"{count} of {total} pictures are almost the same as one in another {where}: too many to be slips, so they are "
        "kept; a set from one camera or video must be parted by recording, or its test flatters"
    )
    return Finding(Kind.ALIKE, message, (), Severity.WARNING)
