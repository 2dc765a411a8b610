"""Body of ``edge-train data``: audit a data set, print the findings, write report and cleaned index."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from edge_runtime.errors import DatasetError
from edge_runtime.platform.atomic import check_free
from edge_runtime.platform.process import silence_native_stderr
from edge_runtime.progress import progress_bar
from edge_runtime.text import escape
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Split
from edge_runtime.workstation.reporting.wording import counted
from train.intake.audit import Audited, audit_files
from train.intake.audit_report import FINDINGS_FILE, REPORT_FILE, findings_json, write_clean_index, write_report
from train.intake.findings import Finding, Kind

_EXAMPLES = 3
_MAX_CLASS_LINES = 30


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
        check_free(out, overwrite=overwrite, marker=FINDINGS_FILE)
    if clean:
        check_free(clean, overwrite=overwrite)
    dataset = resolve(source, sha256=sha256, progress=progress_bar)
    out = out or Path("audits") / _folder_name(dataset.name)
    check_free(out, overwrite=overwrite, marker=FINDINGS_FILE)
    # libjpeg and libpng print warnings without file names; the report lists the files.
    with silence_native_stderr():
        with progress_bar("reading files", len(dataset.samples)) as progress:
            audited = audit_files(dataset, progress)
        write_report(out, audited, overwrite=overwrite)
    if as_json:
        click.echo(findings_json(audited), nl=False)
    else:
        _print_summary(audited, out / REPORT_FILE)
    _check_usable(audited)
    listed = write_clean_index(clean, audited, overwrite=overwrite) if clean else 0
    if not as_json:
        if clean:
            click.echo(f"index   {clean} ({listed} images)")
        data = shlex.quote(str(clean or source))
        click.echo(f"next    edge-train run --data {data} --out runs/{_folder_name(out.name)}")


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
    click.echo(
        f"{audited.dataset.name}: {counted(files, 'file')}, {len(result.kept)} kept, {len(result.left_out)} left out\n"
    )
    _print_classes(audited)
    for kind in Kind:
        findings = [finding for finding in result.findings if finding.kind is kind]
        if findings:
            _print_findings(audited, kind, findings)
    if not result.findings:
        click.echo("\nNo findings: every file can be used as it is.")
    click.echo(f"\nreport  {page}")


def _print_classes(audited: Audited) -> None:
    """Print the number of kept images by class and split."""
    samples = audited.audit.kept
    splits: list[Split | None] = [split for split in Split if any(sample.split is split for sample in samples)]
    if any(sample.split is None for sample in samples):
        splits.append(None)
    counts = Counter((sample.label, sample.split) for sample in samples)
    rows = [["class", *(split.value if split else "images" for split in splits)]]
    rows += [[label, *(str(counts[label, split]) for split in splits)] for label in audited.dataset.labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[: 1 + _MAX_CLASS_LINES]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        click.echo("  ".join(cells))
    if len(rows) > 1 + _MAX_CLASS_LINES:
        click.echo(f"and {len(rows) - 1 - _MAX_CLASS_LINES} more classes")


def _print_findings(audited: Audited, kind: Kind, findings: Sequence[Finding]) -> None:
    files = {sample for finding in findings for sample in finding.samples}
    click.echo(f"\n{kind.heading}{': ' + counted(len(files), 'file') if files else ''}. {kind.advice}")
    for finding in findings[:_EXAMPLES]:
        names = [escape(audited.short_name(sample.path)) for sample in finding.samples[:_EXAMPLES]]
        more = len(finding.samples) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        click.echo(f"  {finding.message}{f': {listed}' if names else ''}")
    if len(findings) > _EXAMPLES:
        click.echo(f"  and {len(findings) - _EXAMPLES} more")
