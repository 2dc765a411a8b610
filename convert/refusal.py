"""How a child process says in one sentence why it cannot go on, and how its parent says it again.

The child calls `refuse`; its parent, when the child ended with `REFUSED_CODE`, calls `read_refusal`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import NoReturn

from edge_runtime.errors import EdgeKitError, ModelError, OutputError

REFUSED_CODE = 65
"""Exit code of a child that left a sentence (EX_DATAERR of sysexits.h)."""

_FILE = "error.json"
_MAX_CHARACTERS = 2000


def refuse(work_dir: Path, error: EdgeKitError) -> NoReturn:
    """Leave the error's sentence in the work folder and end this process."""
    refusal = {"message": str(error)[:_MAX_CHARACTERS], "output": isinstance(error, OutputError)}
    # On a full disk not even this can be written; the parent then says so.
    with contextlib.suppress(OSError):
        (work_dir / _FILE).write_text(json.dumps(refusal), encoding="utf-8")
    sys.exit(REFUSED_CODE)


def read_refusal(work_dir: Path) -> EdgeKitError:
    """The sentence that a child left, as the ModelError or OutputError to raise."""
    try:
        refusal = json.loads((work_dir / _FILE).read_text(encoding="utf-8"))
        return (OutputError if refusal["output"] else ModelError)(str(refusal["message"]))
    except (OSError, ValueError, KeyError):
        return OutputError(
            f"{work_dir}: a child process could not write there; make room or set TMPDIR to a larger disk"
        )
