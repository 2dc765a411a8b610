"""Body of ``edge-train data``: audit a data set, print a summary, write report, ``findings.json`` and cleaned index."""

from __future__ import annotations

import bisect
import itertools
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from edge_runtime.cli_support import say
from edge_runtime.errors import DatasetError, ImageError, OutputError
from edge_runtime.platform.atomic import atomic_directory, atomic_file, check_free
from edge_runtime.platform.process import silence_native_stderr
from edge_runtime.preprocess import load_image
from edge_runtime.progress import progress_bar
from edge_runtime.text import escape
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Sample, Split, write_split_csv
from edge_runtime.workstation.reporting.pages import render_html, thumbnail_url
from edge_runtime.workstation.reporting.wording import counted
from train.intake.audit import Audited, audit_files
from train.intake.findings import Finding, Kind

_EXAMPLES = 3
_MAX_CLASS_LINES = 30
_MAX_GROUPS = 24
_MAX_FILES_OF_GROUP = 4
_MAX_FILES_OF_LIST = 12
_MAX_THUMBS = 400
_THUMB_SIDE_PX = 120
_JPEG_QUALITY = 75
_SIDE_EDGES_PX = (0, 32, 64, 128, 256, 512, 1024, 2048)
# One finding of these kinds is one image, and its files belong side by side.
_SIDE_BY_SIDE = {Kind.TWO_CLASSES, Kind.LEAKAGE, Kind.DUPLICATE, Kind.NEAR_DUPLICATE}
_REPORT_FILE = "report.html"
_FINDINGS_FILE = "findings.json"
_SCHEMA_VERSION = 1


def run_audit(
    source: str, sha256: str | None, out: Path | None, clean: Path | None, *, as_json: bool, overwrite: bool
) -> None:
    """Audit a data set, print the findings, and write the report and the cleaned index.

    Args:
        source: Data set, as `edge_runtime.workstation.datasets.resolve` takes it.
        sha256: Expected SHA-256 of a zip, or None.
        out: Folder of the report; None for ``audits/NAME``.
        clean: Path of the cleaned index, or None.
        as_json: True to print ``findings.json`` instead of the summary.
        overwrite: True to replace existing output.

    Raises:
        DatasetError: The set cannot be listed, or a class has no usable image. The report is still written in the
            second case, the cleaned index is not.
        OutputError: Output exists already or cannot be written.
    """
    if out:
        check_free(out, overwrite=overwrite, marker=_FINDINGS_FILE)
    if clean:
        check_free(clean, overwrite=overwrite)
    dataset = resolve(source, sha256=sha256, progress=progress_bar)
    out = out or Path("audits") / _folder_name(dataset.name)
    check_free(out, overwrite=overwrite, marker=_FINDINGS_FILE)
    # libjpeg and libpng print warnings without file names; the report lists the files.
    with silence_native_stderr():
        with progress_bar("reading files", len(dataset.samples)) as progress:
            audited = audit_files(dataset, progress)
        _write_report(out, audited, overwrite)
    if as_json:
        click.echo(findings_json(audited), nl=False)
    else:
        _print_summary(audited, out / _REPORT_FILE)
    present = {sample.label for sample in audited.audit.kept}
    missing = [repr(label) for label in dataset.labels if label not in present]
    if missing:
        raise DatasetError(
            f"{dataset.name}: no image of class {', '.join(missing)} can be used; add images or remove the class"
        )
    listed = _write_clean_index(clean, audited, overwrite) if clean else 0
    if not as_json:
        if clean:
            say(f"index   {clean} ({listed} images)")
        data = shlex.quote(str(clean or source))
        say(f"next    edge-train run --data {data} --out runs/{_folder_name(out.name)}")


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:64] or "data"


def _print_summary(audited: Audited, page: Path) -> None:
    result = audited.audit
    files = counted(audited.file_count, "file")
    say(f"{audited.dataset.name}: {files}, {len(result.kept)} kept, {len(result.left_out)} left out\n")
    _print_classes(audited)
    for kind, findings in _by_kind(audited):
        affected = {sample for finding in findings for sample in finding.samples}
        say(f"\n{kind.heading}{': ' + counted(len(affected), 'file') if affected else ''}. {kind.advice}")
        for finding in findings[:_EXAMPLES]:
            names = [escape(audited.short_name(sample.path)) for sample in finding.samples[:_EXAMPLES]]
            more = len(finding.samples) - len(names)
            listed = ", ".join(names) + (f" and {more} more" if more else "")
            say(f"  {finding.message}{f': {listed}' if names else ''}")
        if len(findings) > _EXAMPLES:
            say(f"  and {len(findings) - _EXAMPLES} more")
    if not result.findings:
        say("\nNo findings: every file can be used as it is.")
    say(f"\nreport  {page}")


def _print_classes(audited: Audited) -> None:
    """Print the number of kept images by class and split."""
    counts = Counter((sample.label, sample.split) for sample in audited.audit.kept)
    given = {split for _, split in counts}
    splits = [split for split in (*Split, None) if split in given]
    rows = [["class", *(split.value if split else "images" for split in splits)]]
    rows += [[label, *(str(counts[label, split]) for split in splits)] for label in audited.dataset.labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[: 1 + _MAX_CLASS_LINES]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        say("  ".join(cells))
    if len(rows) > 1 + _MAX_CLASS_LINES:
        say(f"and {len(rows) - 1 - _MAX_CLASS_LINES} more classes")


def _by_kind(audited: Audited) -> list[tuple[Kind, list[Finding]]]:
    """Group the findings by kind, in the order of the report."""
    grouped = {kind: [finding for finding in audited.audit.findings if finding.kind is kind] for kind in Kind}
    return [(kind, findings) for kind, findings in grouped.items() if findings]


def _write_report(folder: Path, audited: Audited, overwrite: bool) -> None:
    try:
        with atomic_directory(folder, marker=_FINDINGS_FILE, overwrite=overwrite) as temporary:
            (temporary / _FINDINGS_FILE).write_text(findings_json(audited), encoding="utf-8")
            page = render_audit_page(audited)
            (temporary / _REPORT_FILE).write_text(page, encoding="utf-8", errors="backslashreplace")
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
        "files": audited.file_count,
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


def _file(sample: Sample) -> dict[str, str]:
    names = {"sha256": sample.sha256, "label": sample.label, "split": _split_name(sample)}
    return {"file": str(sample.path.resolve()), **names}


def _split_name(sample: Sample) -> str:
    return sample.split.value if sample.split else ""


def _write_clean_index(path: Path, audited: Audited, overwrite: bool) -> int:
    """Write the usable images, one of each set of duplicates, as a CSV index, and return their number."""
    # Of equal keys a dict keeps the last value, hence the reversed order: the first file of a set is listed.
    single = {sample.sha256: sample for sample in reversed(audited.audit.kept)}
    chosen = [sample for sample in audited.audit.kept if single[sample.sha256] is sample]
    try:
        with atomic_file(path, overwrite=overwrite) as temporary:
            write_split_csv(temporary, chosen)
    except OSError as error:
        raise OutputError(f"{path}: the index cannot be written ({error.strerror})") from error
    return len(chosen)


def render_audit_page(audited: Audited) -> str:
    """Render the page; the template escapes all text, since labels and file names come from the user's folders."""
    kept = audited.audit.kept
    facts = [audited.facts[sample.sha256] for sample in kept]
    splits = [split.value for split in Split if any(sample.split is split for sample in audited.dataset.samples)]
    counts = Counter((sample.label, _split_name(sample)) for sample in kept)
    per_label = Counter(sample.label for sample in kept)
    left_out = Counter(item.sample.label for item in audited.audit.left_out)
    side_names = [f"{low} to {high - 1} px" for low, high in itertools.pairwise(_SIDE_EDGES_PX)]
    side_names.append(f"{_SIDE_EDGES_PX[-1]} px and more")
    sides = Counter(bisect.bisect(_SIDE_EDGES_PX, min(entry.width_px, entry.height_px)) - 1 for entry in facts)
    return render_html(
        "train",
        "audit.html",
        {
            "name": audited.dataset.name,
            "audited": audited,
            "result": audited.audit,
            "files": audited.file_count,
            "splits": splits,
            "classes": [
                (bar, [counts[bar["name"], split] for split in splits], left_out[bar["name"]])
                for bar in _bars((label, per_label[label]) for label in audited.dataset.labels)
            ],
            "sides": _bars((name, sides[index]) for index, name in enumerate(side_names)),
            "formats": _bars(Counter(entry.format or "other" for entry in facts).most_common()),
            "sections": _sections(audited),
        },
    )


def _bars(counts: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
    """Bars of a chart: ``name``, ``count``, and ``share`` of the longest bar 0..1."""
    rows = list(counts)
    longest = max((count for _, count in rows), default=0) or 1
    return [{"name": name, "count": count, "share": count / longest} for name, count in rows]


def _sections(audited: Audited) -> list[dict[str, Any]]:
    """Findings by kind: number of files, the first groups, and the number of groups not shown."""
    left_out = {item.sample for item in audited.audit.left_out}
    thumbs: dict[str, str] = {}
    sections = []
    for kind, findings in _by_kind(audited):
        limit = _MAX_FILES_OF_GROUP if kind in _SIDE_BY_SIDE else _MAX_FILES_OF_LIST
        groups = [
            {
                "message": finding.message,
                "cards": [_card(audited, sample, sample in left_out, thumbs) for sample in _shown(finding, limit)],
                "more": max(0, len(finding.samples) - limit),
            }
            for finding in findings[:_MAX_GROUPS]
        ]
        files = len({sample for finding in findings for sample in finding.samples})
        sections.append({"kind": kind, "files": files, "groups": groups, "more_groups": len(findings) - len(groups)})
    return sections


def _shown(finding: Finding, limit: int) -> list[Sample]:
    """Select the first files; of conflicting labels or splits one file each comes first, so that all are shown."""
    first: dict[tuple[str, Split | None], Sample] = {}
    for sample in finding.samples:
        first.setdefault((sample.label, sample.split), sample)
    leading = list(first.values()) if finding.kind in _SIDE_BY_SIDE else []
    chosen = set(leading)
    return (leading + [sample for sample in finding.samples if sample not in chosen])[:limit]


def _card(audited: Audited, sample: Sample, is_left_out: bool, thumbs: dict[str, str]) -> dict[str, Any]:
    """Describe one file; ``thumbs`` holds at most 400 thumbnails by SHA-256, which limits the size of the page."""
    facts = audited.facts.get(sample.sha256)
    is_image = facts is not None and not facts.problem
    if is_image and sample.sha256 not in thumbs and len(thumbs) < _MAX_THUMBS:
        thumbs[sample.sha256] = _thumbnail_url(sample.path)
    return {
        "name": audited.short_name(sample.path),
        "where": ", ".join([sample.label, *([sample.split.value] if sample.split else [])]),
        "size": f"{facts.width_px} × {facts.height_px}" if facts and is_image else "",
        "is_left_out": is_left_out,
        "jpeg_url": thumbs.get(sample.sha256, "") if is_image else "",
    }


def _thumbnail_url(path: Path) -> str:
    try:
        return thumbnail_url(load_image(path), side_px=_THUMB_SIDE_PX, quality=_JPEG_QUALITY)
    except ImageError:
        return ""  # changed since it was read
