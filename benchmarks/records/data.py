"""The pictures of a report."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unreadable:
    """A picture that was left out, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class DataRecord:
    """The pictures of a report.

    Attributes:
        source: As the user said it.
        part: ``test``, ``validation``, ``train``, or ``all`` where the source has no parts.
        images: How many were measured on.
        images_per_label: The same by label.
        sha256: Fingerprint of the measured pictures; see `edge_runtime.datasets.samples.fingerprint`.
        unreadable: The pictures that were left out.
        ignored_files: Files that are no pictures by their suffix.
        trained_on: How many of the measured pictures the model was trained on; None where that is not known.
    """

    source: str
    part: str
    images: int
    images_per_label: dict[str, int]
    sha256: str
    unreadable: tuple[Unreadable, ...]
    ignored_files: int
    trained_on: int | None
