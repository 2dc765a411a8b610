"""Child processes of a conversion: shared files in the work folder, exit states and refusals.

The child calls `refuse`; its parent, when the child ended with `REFUSED_CODE`, calls `read_refusal`.

The export child imports TensorFlow; the quantizing and the checking child must not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from edge_runtime.errors import EdgeKitError, EngineError, ModelError, OutputError
from edge_runtime.model.sandbox import SANDBOX_VARIABLE
from edge_runtime.strict import from_mapping, to_mapping

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


REPRESENTATIVE_FILE = "representative.npy"
CHECK_FILE = "check.npy"
GOLDEN_INPUT_FILE = "golden.npy"
TRUTH_FILE = "truth.npy"
BASE_TFLITE = "base.tflite"
BASE_ONNX = "base.onnx"
_LOG_LINES = 15
# A quota and a limit on the size of files are full disks of their own.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Less than any file that a child writes, and more than what an almost full disk has left when a write has failed.
_FULL_BYTES = 64 << 10
_TMPDIR_REMEDY = "set TMPDIR to a folder on a larger disk"

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
        OutputError: The disk is full.
        EngineError: The child was killed, or failed; then the end of its log is in the message.
    """
    job_file, log_file = work_dir / f"{module}.json", work_dir / f"{module}.log"
    write_json(job_file, job)
    # This child is where files that may crash a runtime are opened, so it need not try them in another one first.
    environment = {**os.environ, SANDBOX_VARIABLE: "off"}
    with log_file.open("wb") as log:
        # In the work folder, because python -m looks for modules in the current one first, and that is the user's.
        child = subprocess.Popen(
            [sys.executable, "-m", module, str(job_file)],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=work_dir,
            env=environment,
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
        refusal = read_refusal(work_dir)
        if isinstance(refusal, OutputError) and _is_out_of_space(work_dir, str(refusal)):
            raise no_space(work_dir.parent, _TMPDIR_REMEDY)
        raise refusal
    # Writing to a mapped file on a full disk ends in SIGBUS.
    if (code > 0 or code == -signal.SIGBUS) and _is_out_of_space(work_dir, _log_tail(log_file)):
        raise no_space(work_dir.parent, _TMPDIR_REMEDY)
    if code < 0:
        raise EngineError(
            f"{module} was killed ({signal.Signals(-code).name}) before it was done, perhaps because memory ran out; "
            "nothing was written, so it can simply be run again"
        )
    if code != 0:
        raise EngineError(f"{module} ended with code {code}; its last lines were:\n{_log_tail(log_file)}")


@contextlib.contextmanager
def space_in(place: Path, remedy: str = _TMPDIR_REMEDY) -> Iterator[None]:
    """Turn the failure of a write for want of space into one sentence.

    Args:
        place: What is being written, for the sentence.
        remedy: What else than making room helps.

    Raises:
        OutputError: The disk of ``place`` is full, or a quota is used up.
    """
    try:
        yield
    except OSError as error:
        # numpy gives its own error no number: "135168 requested and 40832 written".
        is_short_write = error.errno is None and str(error).endswith("written")
        if error.errno not in _NO_SPACE and not is_short_write:
            raise
        raise no_space(place, remedy) from error


def no_space(place: Path, remedy: str) -> OutputError:
    """The error to raise when a disk is full."""
    return OutputError(f"{place}: no space left there, so nothing was written; make room, or {remedy}")


def _is_out_of_space(work_dir: Path, words: str) -> bool:
    """By a child's last words, or, since a full disk has no room for these either, by what is left on the disk."""
    return any(os.strerror(code) in words for code in _NO_SPACE) or shutil.disk_usage(work_dir).free < _FULL_BYTES


def _log_tail(log_file: Path) -> str:
    return "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])


def read_json(path: Path, cls: type[T]) -> T:
    """Read a message that another process of the conversion wrote."""
    return from_mapping(cls, json.loads(path.read_text()), path.name)


def write_json(path: Path, value: Any) -> None:
    """Write what `read_json` reads: a dataclass."""
    path.write_text(json.dumps(to_mapping(value)))
