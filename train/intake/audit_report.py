"""Write the results of an audit: ``report.html``, ``findings.json`` and the cleaned index."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import ImageError, OutputError
from edge_runtime.platform.atomic import atomic_directory, atomic_file
from edge_runtime.preprocess import load_image
from edge_runtime.workstation.datasets.samples import Sample, Split, write_split_csv
from edge_runtime.workstation.reporting.pages import render_html, thumbnail_url
from train.intake.audit import Audited
from train.intake.findings import Finding, Kind

_MAX_GROUPS = 24
_MAX_FILES_OF_GROUP = 4
_MAX_FILES_OF_LIST = 12
_MAX_THUMBS = 400
_THUMB_SIDE_PX = 120
_JPEG_QUALITY = 75
_SIDE_EDGES_PX = (0, 32, 64, 128, 256, 512, 1024, 2048)
# One finding of these kinds is one image, and its files belong side by side.
_SIDE_BY_SIDE = {Kind.TWO_CLASSES, Kind.LEAKAGE, Kind.DUPLICATE, Kind.NEAR_DUPLICATE}


@dataclass(frozen=True)
class Card:
    """One file of a finding; what is not known is empty.

    Attributes:
        name: Within the set.
        where: Class and part.
        size: In pixels.
        is_left_out: Whether training goes without it.
        jpeg_url: Embedded thumbnail.
    """

    name: str
    where: str
    size: str
    is_left_out: bool
    jpeg_url: str


@dataclass(frozen=True)
class Group:
    """Files that belong together, what is said of them, and how many more there are."""

    message: str
    cards: tuple[Card, ...]
    more: int


@dataclass(frozen=True)
class Section:
    """All findings of a kind: how many files, and the first groups of them."""

    kind: Kind
    files: int
    groups: tuple[Group, ...]
    more_groups: int


@dataclass(frozen=True)
class Bar:
    """One bar: name, number, share of the longest 0..1."""

    name: str
    count: int
    share: float


def render_audit_page(audited: Audited) -> str:
    """Make the whole page.

    Labels and file names come from the user's folders, so the template escapes everything.
    """
    result = audited.audit
    splits = [split.value for split in Split if any(sample.split is split for sample in audited.dataset.samples)]
    return render_html(
        "train",
        "audit.html",
        {
            "name": audited.dataset.name,
            "audited": audited,
            "result": result,
            "files": len(audited.dataset.samples) + len(audited.dataset.ignored),
            "splits": splits,
            "classes": _classes(audited, splits),
            "sides": _sides(audited),
            "formats": _bars(
                Counter(audited.facts[sample.sha256].format or "other" for sample in result.kept).most_common()
            ),
            "sections": _sections(audited),
        },
    )


def _classes(audited: Audited, splits: Sequence[str]) -> list[tuple[Bar, list[int], int]]:
    """Per class: a bar of what is kept, the same by part, and how many are left out."""
    kept = Counter((sample.label, sample.split.value if sample.split else "") for sample in audited.audit.kept)
    left_out = Counter(item.sample.label for item in audited.audit.left_out)
    totals = [
        (label, sum(count for (name, _), count in kept.items() if name == label)) for label in audited.dataset.labels
    ]
    return [(bar, [kept[bar.name, split] for split in splits], left_out[bar.name]) for bar in _bars(totals)]


def _sides(audited: Audited) -> list[Bar]:
    """Kept images by their shorter side."""
    facts = [audited.facts[sample.sha256] for sample in audited.audit.kept]
    sides = [min(entry.width_px, entry.height_px) for entry in facts]
    ends = [*_SIDE_EDGES_PX[1:], None]
    return _bars(
        (
            f"{low} to {high - 1} px" if high else f"{low} px and more",
            sum(1 for side in sides if low <= side and (high is None or side < high)),
        )
        for low, high in zip(_SIDE_EDGES_PX, ends, strict=True)
    )


def _bars(counts: Iterable[tuple[str, int]]) -> list[Bar]:
    rows = list(counts)
    longest = max((count for _, count in rows), default=0) or 1
    return [Bar(name, count, count / longest) for name, count in rows]


def _sections(audited: Audited) -> list[Section]:
    cards = _Cards(audited)
    sections = []
    for kind in Kind:
        findings = [finding for finding in audited.audit.findings if finding.kind is kind]
        if not findings:
            continue
        limit = _MAX_FILES_OF_GROUP if kind in _SIDE_BY_SIDE else _MAX_FILES_OF_LIST
        groups = tuple(
            Group(
                finding.message,
                tuple(cards.of(sample) for sample in _shown(finding, limit)),
                max(0, len(finding.samples) - limit),
            )
            for finding in findings[:_MAX_GROUPS]
        )
        files = len({sample for finding in findings for sample in finding.samples})
        sections.append(Section(kind, files, groups, len(findings) - len(groups)))
    return sections


def _shown(finding: Finding, limit: int) -> list[Sample]:
    """The first files; where labels or parts clash, one of each comes first, so that the clash is seen."""
    first: dict[tuple[str, Split | None], Sample] = {}
    for sample in finding.samples:
        first.setdefault((sample.label, sample.split), sample)
    leading = list(first.values()) if finding.kind in _SIDE_BY_SIDE else []
    chosen = set(leading)
    return (leading + [sample for sample in finding.samples if sample not in chosen])[:limit]


class _Cards:
    """Makes cards; thumbnails are embedded up to a number that keeps the page small."""

    def __init__(self, audited: Audited) -> None:
        self._audited = audited
        self._left_out = {item.sample for item in audited.audit.left_out}
        self._thumbs: dict[str, str] = {}

    def of(self, sample: Sample) -> Card:
        """The card of one file."""
        facts = self._audited.facts.get(sample.sha256)
        is_image = facts is not None and not facts.problem
        return Card(
            self._audited.short_name(sample.path),
            ", ".join([sample.label, *([sample.split.value] if sample.split else [])]),
            f"{facts.width_px} × {facts.height_px}" if facts and is_image else "",
            sample in self._left_out,
            self._thumb(sample) if is_image else "",
        )

    def _thumb(self, sample: Sample) -> str:
        if sample.sha256 not in self._thumbs and len(self._thumbs) < _MAX_THUMBS:
            self._thumbs[sample.sha256] = _thumbnail_url(sample.path)
        return self._thumbs.get(sample.sha256, "")


def _thumbnail_url(path: Path) -> str:
    try:
        return thumbnail_url(load_image(path), side_px=_THUMB_SIDE_PX, quality=_JPEG_QUALITY)
    except ImageError:
        return ""  # changed since it was read


REPORT_FILE = "report.html"
FINDINGS_FILE = "findings.json"
_SCHEMA_VERSION = 1


def write_report(folder: Path, audited: Audited, *, overwrite: bool = False) -> None:
    """Write the folder of an audit in one step.

    Raises:
        OutputError: The folder exists and must not be replaced, or cannot be written.
    """
    try:
        with atomic_directory(folder, marker=FINDINGS_FILE, overwrite=overwrite) as temporary:
            (temporary / FINDINGS_FILE).write_text(findings_json(audited), encoding="utf-8")
            (temporary / REPORT_FILE).write_text(
                render_audit_page(audited), encoding="utf-8", errors="backslashreplace"
            )
    except OSError as error:
        raise OutputError(f"{folder}: the report cannot be written ({error.strerror})") from error


def findings_json(audited: Audited) -> str:
    """The audit as JSON.

    ``schema_version`` 1; ``name``; ``labels`` in the order of a model's outputs; counts of ``files`` found,
    ``kept`` and ``left_out``; ``classes``: per label the number kept in each part, ``"train"``, ``"validation"``,
    ``"test"``, or ``""`` where the source does not say; ``findings``: each with ``kind`` and ``severity`` (see
    `train.intake.findings`), ``message`` and ``files``; ``left_out_files``: each with a ``reason``. A file has ``file``
    (absolute path), ``sha256``, ``label`` and ``split``; what is not known is an empty string.
    """
    result = audited.audit
    kept = Counter((sample.label, _split_name(sample)) for sample in result.kept)
    data = {
        "schema_version": _SCHEMA_VERSION,
        "name": audited.dataset.name,
        "labels": audited.dataset.labels,
        "files": len(audited.dataset.samples) + len(audited.dataset.ignored),
        "kept": len(result.kept),
        "left_out": len(result.left_out),
        "classes": {
            label: {split: count for (name, split), count in sorted(kept.items()) if name == label}
            for label in audited.dataset.labels
        },
        "findings": [
            {
                "kind": finding.kind.value,
                "severity": finding.severity.value,
                "message": finding.message,
                "files": [_file(sample) for sample in finding.samples],
            }
            for finding in result.findings
        ],
        "left_out_files": [{**_file(item.sample), "reason": item.reason} for item in result.left_out],
    }
    return json.dumps(data, indent=1) + "\n"


def write_clean_index(path: Path, audited: Audited, *, overwrite: bool = False) -> int:
    """List what is fit for training as a CSV that is itself a source; of exact copies, one is listed.

    Returns:
        How many images it lists.

    Raises:
        OutputError: The file exists and must not be replaced, or cannot be written.
    """
    single: dict[str, Sample] = {}
    for sample in audited.audit.kept:
        single.setdefault(sample.sha256, sample)
    try:
        with atomic_file(path, overwrite=overwrite) as temporary:
            write_split_csv(temporary, single.values())
    except OSError as error:
        raise OutputError(f"{path}: the index cannot be written ({error.strerror})") from error
    return len(single)


def _file(sample: Sample) -> dict[str, Any]:
    return {
        "file": str(sample.path.resolve()),
        "sha256": sample.sha256,
        "label": sample.label,
        "split": _split_name(sample),
    }


def _split_name(sample: Sample) -> str:
    return sample.split.value if sample.split else ""
