"""A record as JSON and as Markdown, each whole or not at all, and none replaced unless asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_runtime.atomic import check_free, write_atomic
from edge_runtime.strict import to_mapping


def check_writable(files: Sequence[Path], *, overwrite: bool) -> None:
    """Raise OutputError, before long work, where one of the files exists and must not be replaced."""
    for file in files:
        check_free(file, overwrite=overwrite)


def write_pair(files: tuple[Path, Path], record: Any, text: str, *, overwrite: bool) -> None:
    """Write a dataclass as JSON to the first file and the text to the second.

    Raises:
        OutputError: A file exists and must not be replaced, or cannot be written.
    """
    json_file, text_file = files
    data = json.dumps(to_mapping(record), indent=2, allow_nan=False) + "\n"
    write_atomic(json_file, data, overwrite=overwrite)
    write_atomic(text_file, text, overwrite=overwrite)
