"""Audit a labelled set before training: images kept, images left out, and the reasons."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_runtime.workstation.datasets.samples import Dataset, Sample, Split
from train.intake.facts import NOT_AN_IMAGE, TRUNCATED, Facts, examine, has_wrong_suffix, in_parallel
from train.intake.findings import Finding, Kind, LeftOut, Severity
from train.intake.near_duplicates import TooManyAlikeError, group_pairs, near_pairs

_HELD_OUT = {Split.TRAIN: 0, Split.VALIDATION: 1, Split.TEST: 2}
# If more images than this share are near-duplicates across classes or splits, as frames of one scene are, similarity is
# not a labelling error and no image is left out for it. Identical files always count.
_MAX_NEAR_SHARE = 0.2
_MIN_NEAR_LIMIT = 10
_TINY_PX = 32
_HUGE_PIXELS = 20_000_000
_MAX_RATIO = 3.0
_FEW = 20
_MIN_GROUPS = 10
_MIN_GROUP_SIZE = 4
_IGNORED_NAME = "its name is not that of an image"


@dataclass(frozen=True)
class Audit:
    """Result of an audit.

    Attributes:
        findings: Findings in the order of `Kind`.
        kept: Images for training, in the order of the data set.
        left_out: All other files that were found, images or not.
        groups: Group key by SHA-256 of each kept file, shared by duplicates and near-duplicates of one class, which
            must get the same split to keep the test independent.
    """

    findings: tuple[Finding, ...]
    kept: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    groups: dict[str, str]


@dataclass(frozen=True)
class Screened:
    """Images kept, in the given order, and those left out for conflicts, with findings."""

    kept: tuple[Sample, ...]
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Audited:
    """Data set with the facts of its files and its audit.

    Attributes:
        dataset: Data set as it was listed.
        facts: Facts by SHA-256, of every file that could be opened.
        audit: Result of the audit.
    """

    dataset: Dataset
    facts: dict[str, Facts]
    audit: Audit

    @property
    def file_count(self) -> int:
        """Number of files found, images or not."""
        return len(self.dataset.samples) + len(self.dataset.ignored)

    def short_name(self, path: Path) -> str:
        """Return a path relative to the common folder of all images, if it is in there."""
        if not self.dataset.samples:
            return str(path)
        folders = {str(sample.path.parent) for sample in self.dataset.samples}
        root = Path(os.path.commonpath(folders))
        # Keep the class folder even if all files are in one.
        root = root if len(folders) > 1 else root.parent
        # A file of a zip that was not unpacked is named otherwise: good.zip/readme.txt.
        return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def audit(
    dataset: Dataset, samples: Sequence[Sample], facts: Mapping[str, Facts], unread: Sequence[LeftOut] = ()
) -> Audit:
    """Audit a data set from the facts of its files; reads no file.

    Args:
        dataset: Data set with its labels and the files without an image suffix.
        samples: Images of the data set, with ``sha256``.
        facts: Facts of every sample by SHA-256.
        unread: Files that could not be opened.

    Returns:
        Result that depends on the order of the samples only in its own order.
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
    screened = drop_conflicts(readable, near)
    findings += screened.findings
    groups, alike = _groups(screened.kept, near)
    findings += alike
    findings += _copies(screened.kept, groups)
    findings += _properties(readable, facts)
    findings += _balance(dataset.labels, screened.kept)
    order = {kind: index for index, kind in enumerate(Kind)}
    findings.sort(key=lambda finding: (order[finding.kind], [str(sample.path) for sample in finding.samples[:1]]))
    return Audit(tuple(findings), screened.kept, (*unread, *unusable, *ignored, *screened.left_out), groups)


def _unusable(items: Sequence[LeftOut]) -> list[Finding]:
    """Make one finding per reason."""
    kinds = {TRUNCATED: Kind.TRUNCATED, NOT_AN_IMAGE: Kind.NOT_AN_IMAGE, _IGNORED_NAME: Kind.NOT_AN_IMAGE}
    by_reason: dict[str, list[Sample]] = defaultdict(list)
    for item in items:
        by_reason[item.reason].append(item.sample)
    return [
        Finding(kinds.get(reason, Kind.UNREADABLE), reason, tuple(files), Severity.ERROR)
        for reason, files in by_reason.items()
    ]


def _near(hashes: Sequence[str], facts: Mapping[str, Facts]) -> dict[str, set[str]]:
    """Map the SHA-256 of each image to those of its near-duplicates, in both directions."""
    near: dict[str, set[str]] = defaultdict(set)
    for first, second in near_pairs([facts[sha256] for sha256 in hashes]):
        near[hashes[first]].add(hashes[second])
        near[hashes[second]].add(hashes[first])
    return dict(near)


def drop_conflicts(samples: Sequence[Sample], near: Mapping[str, Collection[str]]) -> Screened:
    """Leave out images with conflicting labels or splits.

    An image under two labels is left out of both, since one label is wrong. An image in two given splits is kept in
    test rather than validation, and in validation rather than train.

    Args:
        samples: Readable images, with ``sha256``; ``split`` may be None.
        near: SHA-256 values of the near-duplicates by SHA-256.
    """
    labels = _screen(samples, near, Kind.TWO_CLASSES)
    parts = _screen(labels.kept, near, Kind.LEAKAGE)
    return Screened(parts.kept, labels.left_out + parts.left_out, labels.findings + parts.findings)


def _screen(samples: Sequence[Sample], near: Mapping[str, Collection[str]], kind: Kind) -> Screened:
    """Leave out every sample that conflicts with another sample of the same image."""
    # One file per content, label and split stands for all its copies, of which there may be thousands.
    by_content: dict[str, dict[tuple[str, Split | None], Sample]] = {}
    for sample in samples:
        by_content.setdefault(sample.sha256, {}).setdefault((sample.label, sample.split), sample)

    def partners(sample: Sample, contents: Collection[str]) -> list[Sample]:
        others = [other for content in sorted(contents) for other in by_content.get(content, {}).values()]
        if kind is Kind.TWO_CLASSES:
            return [other for other in others if other.label != sample.label]
        return [other for other in others if sample.split and other.split and _is_further(other.split, sample.split)]

    same = {sample: partners(sample, [sample.sha256]) for sample in samples}
    almost = {sample: partners(sample, near.get(sample.sha256, ())) for sample in samples if not same[sample]}
    near_count = sum(map(bool, almost.values()))
    findings: list[Finding] = []
    if near_count > max(_MIN_NEAR_LIMIT, _MAX_NEAR_SHARE * len(samples)):
        where = "class" if kind is Kind.TWO_CLASSES else "part of the set"
        message = (
            f"{near_count} of {len(samples)} images are almost the same as one in another {where}: too many to be "
            "errors, so they are kept; split a set from one camera or video by recording, or its test accuracy is too "
            "high"
        )
        findings.append(Finding(Kind.ALIKE, message, (), Severity.WARNING))
        almost = {}
    left_out = [
        LeftOut(sample, _reason(found, kind, is_same=bool(same[sample])))
        for sample in samples
        if (found := same[sample] or almost.get(sample, []))
    ]
    gone = {item.sample for item in left_out}
    links = {sample: same[sample] + almost.get(sample, []) for sample in gone}
    findings += _findings(samples, links, kind)
    return Screened(tuple(sample for sample in samples if sample not in gone), tuple(left_out), tuple(findings))


def _is_further(split: Split, than: Split) -> bool:
    return _HELD_OUT[split] > _HELD_OUT[than]


def _reason(found: Sequence[Sample], kind: Kind, *, is_same: bool) -> str:
    """Explain why a file is left out, from the files it conflicts with."""
    other = found[0]
    if kind is Kind.TWO_CLASSES:
        labels = ", ".join(sorted({sample.label for sample in found}))
        return (
            f"the same file is also labelled {labels}"
            if is_same
            else f"almost the same image is labelled {other.label}: {other.path}"
        )
    if is_same:
        return f"the same file is also in {_split_names(found)[-1]}, where it stays"
    return f"almost the same image is in {_split_names([other])[-1]}: {other.path}"


def _split_names(samples: Sequence[Sample]) -> list[str]:
    """Name the given splits of some files, the one that is held out furthest last."""
    return [split.value for split in sorted({s.split for s in samples if s.split}, key=_HELD_OUT.__getitem__)]


def _findings(samples: Sequence[Sample], links: Mapping[Sample, Sequence[Sample]], kind: Kind) -> list[Finding]:
    """Make one finding per image, with all its files."""
    position = {sample: index for index, sample in enumerate(samples)}
    pairs = {(position[sample], position[other]) for sample, others in links.items() for other in others}
    findings = []
    for group in group_pairs(len(samples), sorted((min(pair), max(pair)) for pair in pairs)):
        members = tuple(samples[index] for index in group)
        same = "the same file is" if len({member.sha256 for member in members}) == 1 else "almost the same image is"
        if kind is Kind.TWO_CLASSES:
            message = f"{same} labelled {' and '.join(sorted({member.label for member in members}))}"
        else:
            message = f"{same} in {' and '.join(_split_names(members))}"
        findings.append(Finding(kind, message, members, Severity.ERROR))
    return findings


def _groups(kept: Sequence[Sample], near: Mapping[str, Iterable[str]]) -> tuple[dict[str, str], list[Finding]]:
    """Group near-duplicates of one class; without conflicts each content has one label."""
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
            # As groups they could not be split.
            message = (
                f"the {len(hashes)} images of {label} show only {different} that differ, so near duplicates are "
                "in all parts of the split and its test accuracy is too high: add images of other scenes"
            )
            findings.append(Finding(Kind.ALIKE, message, (), Severity.WARNING))
            keys = {sha256: sha256 for sha256 in hashes}
        groups.update(keys)
    return groups, findings


def _copies(kept: Sequence[Sample], groups: Mapping[str, str]) -> list[Finding]:
    """Find duplicates and near-duplicates that are kept: one finding per image."""
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
        Finding(Kind.NEAR_DUPLICATE, f"{len(files)} files show almost the same image", tuple(files), Severity.WARNING)
        for files in by_group.values()
        if len({sample.sha256 for sample in files}) > 1
    ]


def _properties(readable: Sequence[Sample], facts: Mapping[str, Facts]) -> list[Finding]:
    """Find unusual sizes and suffixes of usable images; one finding for all of a kind."""
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
    sizes = (
        (Kind.TINY, tiny, f"have a side under {_TINY_PX} pixels"),
        (Kind.HUGE, huge, f"have more than {_HUGE_PIXELS // 1_000_000} million pixels"),
    )
    findings = [
        Finding(kind, f"{len(files)} of {len(readable)} images {what}", tuple(files), Severity.WARNING)
        for kind, files, what in sizes
        if files
    ]
    for (suffix, format_name), files in sorted(renamed.items()):
        message = f"{format_name.upper()} by content, but named {suffix or 'without suffix'}"
        findings.append(Finding(Kind.WRONG_SUFFIX, message, tuple(files), Severity.WARNING))
    return findings


def _balance(labels: Sequence[str], kept: Sequence[Sample]) -> list[Finding]:
    """Find classes that are small, absolutely or compared with the largest; duplicates count once."""
    counts = Counter(label for label, _ in {(sample.label, sample.sha256) for sample in kept})
    smallest, largest = min(labels, key=lambda label: counts[label]), max(labels, key=lambda label: counts[label])
    findings = []
    if counts[largest] > _MAX_RATIO * counts[smallest]:
        share = counts[largest] / sum(counts.values())
        message = (
            f"{largest} has {counts[largest]} images and {smallest} {counts[smallest]}: "
            f"always answering {largest} would already be right for {share:.0%}"
        )
        findings.append(Finding(Kind.UNBALANCED, message, (), Severity.WARNING))
    few = [f"{label} {counts[label]}" for label in labels if counts[label] < _FEW]
    if few:
        message = f"fewer than {_FEW} different images: {', '.join(few)}"
        findings.append(Finding(Kind.FEW, message, (), Severity.WARNING))
    return findings


def audit_files(dataset: Dataset, progress: Callable[[int], None] | None = None) -> Audited:
    """Hash and decode every image, in parallel, keeping only the facts.

    Args:
        dataset: Data set to read.
        progress: Function called with 1 after each file.
    """
    # Drop each full image at once: a data set may be larger than memory.
    found = in_parallel(lambda sample: examine(sample.path)[0], dataset.samples, progress)
    examined = list(zip(dataset.samples, found, strict=True))
    unread = [LeftOut(sample, entry.problem) for sample, entry in examined if not entry.sha256]
    hashed = [replace(sample, sha256=entry.sha256) for sample, entry in examined if entry.sha256]
    facts = {entry.sha256: entry for entry in found if entry.sha256}
    return Audited(dataset, facts, audit(dataset, hashed, facts, unread))
