"""The conversion report and the table on the terminal: what each export lost against Keras."""

from __future__ import annotations

import hashlib

from convert.compare import points
from convert.run_source import RunSource
from edge_runtime.contract import Artifact, Manifest

_COLUMNS = ("variant", "size", "accuracy", "change", "agreement", "largest difference", "runtime", "verdict")


def table_rows(measured: Manifest) -> list[tuple[str, ...]]:
    """Header and one row of text per artifact."""
    return [_COLUMNS, *(_row(artifact) for artifact in measured.artifacts)]


def text_table(measured: Manifest) -> str:
    """The table with aligned columns."""
    rows = table_rows(measured)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def render(measured: Manifest, source: RunSource) -> str:
    """The report as Markdown."""
    header, *rows = table_rows(measured)
    lines = [
        f"# Conversion of {measured.model_name}",
        "",
        f"Labels: {', '.join(measured.labels)}",
        "",
        _markdown_row(header),
        _markdown_row(("---",) * len(header)),
        *(_markdown_row(row) for row in rows),
        "",
        _explanation(measured),
        "",
        f"Calibrated with {len(source.representative)} pictures of the training split, the classes taking turns "
        f"(SHA-256 of the list: {_list_sha256(source)}).",
    ]
    failed = [artifact.variant.value for artifact in measured.artifacts if artifact.check and not artifact.check.passed]
    if failed:
        lines += ["", f"Not in the bundle, because it failed its check: {', '.join(failed)}."]
    return "\n".join(lines) + "\n"


def _row(artifact: Artifact) -> tuple[str, ...]:
    check = artifact.check
    if check is None:
        return (
            artifact.variant.value,
            _size(artifact.bytes),
            "-",
            "-",
            "-",
            "-",
            artifact.minimum_runtime,
            "not checked",
        )
    return (
        artifact.variant.value,
        _size(artifact.bytes),
        f"{check.accuracy:.2%}",
        f"{points(check.accuracy - check.keras_accuracy):+.2f} pp",
        f"{check.agreement:.2%}",
        f"{check.max_probability_difference:.1e}",
        artifact.minimum_runtime,
        "passed" if check.passed else f"FAILED (allowed loss {check.max_drop_points:g} pp)",
    )


def _explanation(measured: Manifest) -> str:
    check = next((artifact.check for artifact in measured.artifacts if artifact.check), None)
    if check is None:
        return "No artefact was checked."
    return (
        f"Measured on {check.images} pictures ({check.split}) in a process without TensorFlow. "
        f"Keras itself: {check.keras_accuracy:.2%}. Change is against Keras, in percentage points; agreement is the "
        "share of pictures with Keras' answer; the largest difference is of one probability."
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def _markdown_row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list_sha256(source: RunSource) -> str:
    names = "\n".join(sample.sha256 or sample.path.name for sample in source.representative)
    return hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:16]
