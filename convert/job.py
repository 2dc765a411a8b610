"""How the conversion runs its child processes, and the files that they share in one work folder, never objects.

The export child imports TensorFlow; the quantizing and the checking child must not.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from convert.export.refusal import REFUSED_CODE, read_refusal
from edge_runtime.errors import EngineError
from edge_runtime.strict import from_mapping, to_mapping

REPRESENTATIVE_FILE = "representative.npy"
CHECK_FILE = "check.npy"
GOLDEN_INPUT_FILE = "golden.npy"
TRUTH_FILE = "truth.npy"
BASE_TFLITE = "base.tflite"
BASE_ONNX = "base.onnx"
_LOG_LINES = 15

T = TypeVar("T")


def run_child(module: str, job: Any, work_dir: Path, on_line: Callable[[str], None] | None = None) -> None:
    """Run ``python -m module JOB.json`` and wait for it.

    Args:
        module: The child's module.
        job: Its work, a dataclass, written as JSON into the work folder.
        work_dir: The work folder.
        on_line: Called with each line of the child's standard output.

    Raises:
        EdgeKitError: What the child refused to do, in its own sentence.
        EngineError: The child was killed, or failed; then the end of its log is in the message.
    """
    job_file, log_file = work_dir / f"{module}.json", work_dir / f"{module}.log"
    write_json(job_file, job)
    with log_file.open("wb") as log:
        # In the work folder, because python -m looks for modules in the current one first, and that is the user's.
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(job_file)], stdout=subprocess.PIPE, stderr=log, text=True, cwd=work_dir
        )
        try:
            for line in child.stdout or ():
                if on_line:
                    on_line(line.rstrip("\n"))
            code = child.wait()
        finally:
            # Ctrl-C in the parent must not leave a converter running.
            child.kill()
            child.wait()
    if code == REFUSED_CODE:
        raise read_refusal(work_dir)
    if code < 0:
        raise EngineError(
            f"{module} was killed ({signal.Signals(-code).name}) before it was done, perhaps because memory ran out; "
            "nothing was written, so it can simply be run again"
        )
    if code != 0:
        tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        raise EngineError(f"{module} ended with code {code}; its last lines were:\n{tail}")


def read_json(path: Path, cls: type[T]) -> T:
    """Read a message that another process of the conversion wrote."""
    return from_mapping(cls, json.loads(path.read_text()), path.name)


def write_json(path: Path, value: Any) -> None:
    """Write what `read_json` reads: a dataclass."""
    path.write_text(json.dumps(to_mapping(value)))
