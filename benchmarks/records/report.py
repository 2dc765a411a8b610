"""A benchmark report (``report.json``), as data with a versioned schema.

It is drawn by `benchmarks.report`, and compared with another by `benchmarks.comparison`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import MachineRecord
from benchmarks.records.board import BoardWatch
from benchmarks.records.data import DataRecord
from benchmarks.records.performance import SubjectResult
from benchmarks.settings import Settings
from edge_runtime.errors import DataError
from edge_runtime.strict import from_json, to_mapping

REPORT_SCHEMA_VERSION = 2
_MOST_BYTES = 64 << 20
REPORT_FILE = "report.json"
MARKDOWN_FILE = "report.md"
PAGE_FILE = "report.html"
LATENCIES_FILE = "latencies.csv"
ANSWERS_FILE = "answers.csv"


@dataclass(frozen=True)
class Verdict:
    """What to ship.

    Attributes:
        variant: The recommended artefact; None where none can be recommended.
        text: One paragraph in plain words: which, why, at what cost, and how sure.
    """

    variant: str | None
    text: str


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        tool: ``edgekit`` and its version.
        created_utc: ISO 8601, when measuring began.
        duration_s: How long all of it took.
        command: The command line.
        settings: The same as data, with every default.
        model_name: From the bundle's manifest.
        bundle: As the user said it.
        bundle_manifest_sha256: Of the bundle's ``manifest.json``.
        keras_run: As the user said it, or None.
        keras_sha256: Of the Keras model file, or None.
        machine: Where it was measured.
        board: Temperature, frequency, throttling and power around the measurements.
        data: What it was measured on.
        subjects: One per model, in the order of the bundle, Keras first.
        invalid: Why nobody should quote the latencies: one sentence each; empty where they are sound.
        remarks: Sentences that a reader must know.
        verdict: What to ship.
        schema_version: `REPORT_SCHEMA_VERSION`.
    """

    tool: str
    created_utc: str
    duration_s: float
    command: str
    settings: Settings
    model_name: str
    bundle: str
    bundle_manifest_sha256: str
    keras_run: str | None
    keras_sha256: str | None
    machine: MachineRecord
    board: BoardWatch
    data: DataRecord
    subjects: tuple[SubjectResult, ...]
    invalid: tuple[str, ...]
    remarks: tuple[str, ...]
    verdict: Verdict
    schema_version: int = REPORT_SCHEMA_VERSION

    @property
    def is_complete(self) -> bool:
        """Whether every subject was measured and every picture was read."""
        return not self.data.unreadable and all(subject.error is None for subject in self.subjects)

    def to_json(self) -> str:
        """JSON text with a final newline."""
        return json.dumps(to_mapping(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_report(folder: Path) -> Report:
    """Read the report of a report directory, or a ``report.json`` itself.

    Raises:
        DataError: No report there, or one that is too large.
        ManifestError: Not JSON, of another schema version, or a field is unknown, missing or of the wrong type.
    """
    path = folder / REPORT_FILE if folder.is_dir() else folder
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: expected a report of at most {_MOST_BYTES >> 20} MiB, got more")
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: expected a report of edge-bench run ({error.strerror})") from error
    return from_json(Report, text, str(path), schema_version=REPORT_SCHEMA_VERSION, max_bytes=_MOST_BYTES)
