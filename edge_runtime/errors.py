"""Exceptions that edgekit raises on purpose, with their exit codes.

    EdgeKitError                 1   base; also "some inputs failed, the others are done", and problems found by doctor
    ├── UsageError               2   an option or argument that cannot be used
    ├── DataError                3   images
    │   ├── ImageError           3     one image that cannot be decoded
    │   └── DatasetError         3     a folder or set that cannot be trained or measured on
    ├── ModelError               4   model files and bundles
    │   ├── ManifestError        4     a manifest that does not follow the schema
    │   ├── IntegrityError       4     a file with a wrong SHA-256 or structure
    │   └── CompatibilityError   4     labels, shapes or formats that do not fit together
    ├── EngineError              5   a runtime that is missing or that failed
    ├── SourceError              6   a camera or video that cannot be opened or read
    ├── OutputError              7   a path that cannot be written, or that already exists
    ├── GateError                8   an export, or a later report, that lost more than allowed
    ├── ComparisonError          9   two benchmark reports that cannot be compared
    └── MissingExtraError        1   a command whose optional packages are not installed

A message is one sentence: expected, found, remedy.
Exit code 130 means interrupted by Ctrl-C, or by SIGTERM once the work has begun; a SIGTERM before that ends the
program itself (143 in a shell). Exit code 70 means a fault of edgekit, which should be reported.
"""

from __future__ import annotations

EXIT_FAULT = 70
EXIT_INTERRUPTED = 130


class EdgeKitError(Exception):
    """Base of all errors that are caused by an input and not by a bug.

    Attributes:
        exit_code: Exit code of a program that ends with it.
        keeps_lines: True if the message ends with lines of a log, which stay lines when it is printed.
    """

    exit_code = 1
    keeps_lines = False


class UsageError(EdgeKitError):
    """An option or argument that cannot be used."""

    exit_code = 2


class DataError(EdgeKitError):
    """Images that cannot be used."""

    exit_code = 3


class ImageError(DataError):
    """One image that cannot be decoded."""


class DatasetError(DataError):
    """A folder or data set that cannot be trained or measured on."""


class ModelError(EdgeKitError):
    """A model file or bundle that cannot be used."""

    exit_code = 4


class ManifestError(ModelError):
    """A manifest that does not follow the schema."""


class IntegrityError(ModelError):
    """A file with a wrong SHA-256 or structure."""


class CompatibilityError(ModelError):
    """Labels, shapes or formats that do not fit together."""


class EngineError(EdgeKitError):
    """A runtime that is missing or that failed."""

    exit_code = 5


class SourceError(EdgeKitError):
    """A camera or video that cannot be opened or read."""

    exit_code = 6


class OutputError(EdgeKitError):
    """A path that cannot be written, or that already exists."""

    exit_code = 7


class GateError(EdgeKitError):
    """An export that lost more accuracy than allowed."""

    exit_code = 8


class ComparisonError(EdgeKitError):
    """Two benchmark reports that cannot be compared, so that they neither pass nor fail."""

    exit_code = 9


class MissingExtraError(EdgeKitError):
    """A command whose optional packages are not installed."""

    def __init__(self, command: str, extra: str, package: str) -> None:
        super().__init__(
            f"{command} needs the package {package}, which is not installed: run pip install 'edgekit[{extra}]' "
            f"(in a checkout: pip install '.[{extra}]')"
        )


def shorten(text: str, limit: int = 120) -> str:
    """Shorten untrusted text to at most ``limit`` characters, for a message."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
