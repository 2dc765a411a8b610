"""Body of ``edge-train data``: audit a labelled set, print and write the report, write the cleaned index."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from edge_runtime.cli_support import progress_bar
from edge_runtime.errors import DatasetError
from edge_runtime.platform.atomic import check_free
from edge_runtime.platform.process import silence_native_stderr
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Split
from train.intake.audit import Audited, audit_files
from train.intake.audit_report import FINDINGS_FILE, REPORT_FILE, findings_json, write_clean_index, write_report
from train.intake.findings import Finding, Kind

_EXAMPLES = 3
_MAX_CLASS_LINES = 30


@dataclass(frozen=True)
class AuditRequest:
    """What the command line asks for.

    Attributes:
        source: SRC, see `edge_runtime.workstation.datasets.resolve`.
        sha256: What a zip must hash to, or None.
        out: Folder of the report, or None for ``audits/NAME``.
        clean: Index to write, or None.
        as_json: Whether ``findings.json`` is printed instead of the summary.
        overwrite: Whether existing output is replaced.
    """

    source: str
    sha256: str | None
    out: Path | None
    clean: Path | None
    as_json: bool
    overwrite: bool


def run_audit(request: AuditRequest) -> None:
    """Audit a set and write what was asked for.

    Raises:
        DatasetError: The set cannot be listed, or a class has no image that can be used; the report is written then
            too, the cleaned index is not.
        OutputError: Something is in the way, or cannot be written.
    """
    if request.out:
        check_free(request.out, overwrite=request.overwrite, marker=FINDINGS_FILE)
    if request.clean:
        check_free(request.clean, overwrite=request.overwrite)
    dataset = resolve(request.source, sha256=request.sha256, progress=progress_bar)
    out = request.out or Path("audits") / _folder_name(dataset.name)
    check_free(out, overwrite=request.overwrite, marker=FINDINGS_FILE)
    # libjpeg and libpng complain on standard error about images without naming them; the report names them.
    with silence_native_stderr():
        with progress_bar("reading files", len(dataset.samples)) as progress:
            audited = audit_files(dataset, progress)
        write_report(out, audited, overwrite=request.overwrite)
    if request.as_json:
        click.echo(findings_json(audited), nl=False)
    else:
        _print_summary(audited, out / REPORT_FILE)
    _check_usable(audited)
    listed = write_clean_index(request.clean, audited, overwrite=request.overwrite) if request.clean else 0
    if not request.as_json:
        _print_next(request, out, listed)


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:64] or "data"


def _check_usable(audited: Audited) -> None:
    present = {sample.label for sample in audited.audit.kept}
    missing = [label for label in audited.dataset.labels if label not in present]
    if missing:
        raise DatasetError(
            f"{audited.dataset.name}: no image of class {', '.join(map(repr, missing))} can be used; "
            "add images or remove the class"
        )


def _print_summary(audited: Audited, page: Path) -> None:
    result = audited.audit
    files = len(audited.dataset.samples) + len(audited.dataset.ignored)
    click.echo(f"{audited.dataset.name}: {_files(files)}, {len(result.kept)} kept, {len(result.left_out)} left out\n")
    _print_classes(audited)
    for kind in Kind:
        findings = [finding for finding in result.findings if finding.kind is kind]
        if findings:
            _print_findings(audited, kind, findings)
    if not result.findings:
        click.echo("\nNothing was found: every file can be used as it is.")
    click.echo(f"\nreport  {page}")


def _print_classes(audited: Audited) -> None:
    """Kept images by class and part."""
    samples = audited.audit.kept
    splits: list[Split | None] = [split for split in Split if any(sample.split is split for sample in samples)]
    if any(sample.split is None for sample in samples):
        splits.append(None)
    counts = Counter((sample.label, sample.split) for sample in samples)
    rows = [["class", *(split.value if split else "pictures" for split in splits)]]
    rows += [[label, *(str(counts[label, split]) for split in splits)] for label in audited.dataset.labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[: 1 + _MAX_CLASS_LINES]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        click.echo("  ".join(cells))
    if len(rows) > 1 + _MAX_CLASS_LINES:
        click.echo(f"and {len(rows) - 1 - _MAX_CLASS_LINES} more classes")


def _print_findings(audited: Audited, kind: Kind, findings: Sequence[Finding]) -> None:
    files = len({sample for finding in findings for sample in finding.samples})
    click.echo(f"\n{kind.heading}{f': {_files(files)}' if files else ''}. {kind.advice}")
    for finding in findings[:_EXAMPLES]:
        names = [_printable(audited.short_name(sample.path)) for sample in finding.samples[:_EXAMPLES]]
        more = len(finding.samples) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        click.echo(f"  {finding.message}{f': {listed}' if names else ''}")
    if len(findings) > _EXAMPLES:
        click.echo(f"  and {len(findings) - _EXAMPLES} more")


def _print_next(request: AuditRequest, out: Path, listed: int) -> None:
    if request.clean:
        click.echo(f"index   {request.clean} ({listed} images)")
    source = shlex.quote(str(request.clean or request.source))
    click.echo(f"next    edge-train run --data {source} --out runs/{_folder_name(out.name)}")


def _files(count: int) -> str:
    return f"{count:,} file{'' if count == 1 else 's'}"


def _printable(name: str) -> str:
    """A file name on one line that cannot drive the terminal."""
    return "".join(char if char.isprintable() else "?" for char in name)
