"""What ``edge-train data`` writes: ``report.html`` for people, ``findings.json`` for programs, and a cleaned index."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from edge_runtime.atomic import atomic_directory, atomic_file
from edge_runtime.datasets.samples import Sample, write_split_csv
from edge_runtime.errors import OutputError
from train.intake.audit_files import Audited

REPORT_FILE = "report.html"
FINDINGS_FILE = "findings.json"
_SCHEMA_VERSION = 1


def write_report(folder: Path, audited: Audited, *, overwrite: bool = False) -> None:
    """Write the folder of an audit in one step.

    Raises:
        OutputError: The folder exists and must not be replaced, or cannot be written.
    """
    from train.intake.audit_page import render_page

    try:
        with atomic_directory(folder, marker=FINDINGS_FILE, overwrite=overwrite) as temporary:
            (temporary / FINDINGS_FILE).write_text(findings_json(audited), encoding="utf-8")
            (temporary / REPORT_FILE).write_text(render_page(audited), encoding="utf-8", errors="backslashreplace")
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
        How many pictures it lists.

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
