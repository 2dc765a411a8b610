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
REPORT_FILE = "report.html"
FINDINGS_FILE = "findings.json"
_SCHEMA_VERSION = 1


def write_report(folder: Path, audited: Audited, *, overwrite: bool = False) -> None:
    """Write the report folder atomically.

    Raises:
        OutputError: The folder exists and ``overwrite`` is false, or it cannot be written.
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
    """Write the audit as JSON.

    ``schema_version`` 1; ``name``; ``labels`` in the order of a model's outputs; counts of ``files`` found,
    ``kept`` and ``left_out``; ``classes``: number kept by label and split, ``"train"``, ``"validation"``, ``"test"``,
    or ``""`` if the source has no split; ``findings``: each with ``kind`` and ``severity`` (see
    `train.intake.findings`), ``message`` and ``files``; ``left_out_files``: each with a ``reason``. A file has ``file``
    (absolute path), ``sha256``, ``label`` and ``split``; unknown values are empty strings.
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


def _file(sample: Sample) -> dict[str, Any]:
    return {
        "file": str(sample.path.resolve()),
        "sha256": sample.sha256,
        "label": sample.label,
        "split": _split_name(sample),
    }


def _split_name(sample: Sample) -> str:
    return sample.split.value if sample.split else ""


def write_clean_index(path: Path, audited: Audited, *, overwrite: bool = False) -> int:
    """Write the usable images, one of each set of duplicates, as a CSV index that is a data source itself.

    Returns:
        Number of images in the index.

    Raises:
        OutputError: The file exists and ``overwrite`` is false, or it cannot be written.
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


@dataclass(frozen=True)
class Card:
    """File of a finding; unknown text is empty.

    Attributes:
        name: Path within the data set.
        where: Class and split of the file.
        size: Width and height in pixels.
        is_left_out: True if training does not use the file.
        jpeg_url: Thumbnail as a data URL.
    """

    name: str
    where: str
    size: str
    is_left_out: bool
    jpeg_url: str


@dataclass(frozen=True)
class Group:
    """Files of one finding, its message, and the number of files not shown."""

    message: str
    cards: tuple[Card, ...]
    more: int


@dataclass(frozen=True)
class Section:
    """Findings of one kind: number of files, the first groups, and the number of groups not shown."""

    kind: Kind
    files: int
    groups: tuple[Group, ...]
    more_groups: int


@dataclass(frozen=True)
class Bar:
    """Bar of a chart: name, count, and share of the longest bar 0..1."""

    name: str
    count: int
    share: float


def render_audit_page(audited: Audited) -> str:
    """Render the page; the template escapes all text, since labels and file names come from the user's folders."""
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
    """Count by class: kept images as a bar, kept images by split, and images left out."""
    kept = Counter((sample.label, sample.split.value if sample.split else "") for sample in audited.audit.kept)
    left_out = Counter(item.sample.label for item in audited.audit.left_out)
    totals = [
        (label, sum(count for (name, _), count in kept.items() if name == label)) for label in audited.dataset.labels
    ]
    return [(bar, [kept[bar.name, split] for split in splits], left_out[bar.name]) for bar in _bars(totals)]


def _sides(audited: Audited) -> list[Bar]:
    """Count kept images by their shorter side."""
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
    """Select the first files; of conflicting labels or splits one file each comes first, so that all are shown."""
    first: dict[tuple[str, Split | None], Sample] = {}
    for sample in finding.samples:
        first.setdefault((sample.label, sample.split), sample)
    leading = list(first.values()) if finding.kind in _SIDE_BY_SIDE else []
    chosen = set(leading)
    return (leading + [sample for sample in finding.samples if sample not in chosen])[:limit]


class _Cards:
    """Builder of cards, which embeds at most 400 thumbnails to limit the size of the page."""

    def __init__(self, audited: Audited) -> None:
        self._audited = audited
        self._left_out = {item.sample for item in audited.audit.left_out}
        self._thumbs: dict[str, str] = {}

    def of(self, sample: Sample) -> Card:
        """Make the card of one file."""
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
