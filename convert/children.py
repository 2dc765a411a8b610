"""Child processes of a conversion: start, exit states, refusals and full disks.

The child calls `refuse`; its parent calls `read_refusal` when the child ended with `REFUSED_CODE`. The export child
imports TensorFlow; the quantizing and the checking child must not.
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
from typing import Any, NoReturn

from convert.messages import write_message
from edge_runtime.errors import EdgeKitError, EngineError, ModelError, OutputError
from edge_runtime.model.sandbox import SANDBOX_VARIABLE
from edge_runtime.platform.childproc import isolated_command, signal_name

REFUSED_CODE = 65
"""Exit code of a child that left a message (EX_DATAERR of sysexits.h)."""

_REFUSAL_FILE = "error.json"
_MAX_CHARACTERS = 2000
_LOG_LINES = 15
# A quota and a limit on the size of files count as full disks.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Smaller than any file that a child writes, larger than what an almost full disk has left after a failed write.
_FULL_BYTES = 64 << 10
_TMPDIR_REMEDY = "set TMPDIR to a folder on a larger disk"


def refuse(work_dir: Path, error: EdgeKitError) -> NoReturn:
    """Write the error's message into the work folder and exit with `REFUSED_CODE`."""
    refusal = {"message": str(error)[:_MAX_CHARACTERS], "output": isinstance(error, OutputError)}
    # On a full disk even this cannot be written; the parent then reports the disk.
    with contextlib.suppress(OSError):
        (work_dir / _REFUSAL_FILE).write_text(json.dumps(refusal), encoding="utf-8")
    sys.exit(REFUSED_CODE)


def read_refusal(work_dir: Path) -> EdgeKitError:
    """Read the message that a child left, as the ModelError or OutputError to raise."""
    try:
        refusal = json.loads((work_dir / _REFUSAL_FILE).read_text(encoding="utf-8"))
        return (OutputError if refusal["output"] else ModelError)(str(refusal["message"]))
    except (OSError, ValueError, KeyError):
        return OutputError(
            f"{work_dir}: a child process could not write there; make room or set TMPDIR to a larger disk"
        )


def run_child(module: str, job: Any, work_dir: Path, on_line: Callable[[str], None] | None = None) -> None:
    """Run ``main()`` of a module in an isolated Python on a job file and wait for it.

    Args:
        module: Dotted name of the child's module.
        job: Dataclass with the child's work, written as JSON into the work folder.
        work_dir: Work folder, current folder of the child.
        on_line: Called with each line of the child's standard output.

    Raises:
        EdgeKitError: The child refused the job; the message is the child's.
        OutputError: The disk is full.
        EngineError: The child was killed, or failed; the message then ends with the last lines of its log.
    """
    job_file, log_file = work_dir / f"{module}.json", work_dir / f"{module}.log"
    write_message(job_file, job)
    # This child is isolated already: files that may crash a runtime need not be tried in another process first.
    environment = {**os.environ, SANDBOX_VARIABLE: "off"}
    command = isolated_command(module, str(job_file))
    with log_file.open("wb") as log:
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=work_dir, env=environment
        )  # fmt: skip
        try:
            for line in child.stdout or ():
                if on_line:
                    on_line(line.rstrip("\n"))
            code = child.wait()
        finally:
            # Ctrl-C in the parent must not leave a converter running.
            child.kill()
            child.wait()
    _check_exit(module, code, work_dir, log_file)


def _check_exit(module: str, code: int, work_dir: Path, log_file: Path) -> None:
    """Raise the error that a child's exit code stands for; see `run_child`."""
    if code == REFUSED_CODE:
        refusal = read_refusal(work_dir)
        if isinstance(refusal, OutputError) and _is_out_of_space(work_dir, str(refusal)):
            raise no_space(work_dir.parent, _TMPDIR_REMEDY)
        raise refusal
    log_tail = "\n".join(log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    # Writing to a mapped file on a full disk ends in SIGBUS.
    if (code > 0 or code == -signal.SIGBUS) and _is_out_of_space(work_dir, log_tail):
        raise no_space(work_dir.parent, _TMPDIR_REMEDY)
    if code < 0:
        raise EngineError(
            f"{module} was killed ({signal_name(-code)}) before it finished, perhaps because memory ran out; "
            "nothing was written, so it can be run again"
        )
    if code != 0:
        raise EngineError(f"{module} ended with code {code}; its last lines were:\n{log_tail}")


@contextlib.contextmanager
def space_in(place: Path, remedy: str = _TMPDIR_REMEDY) -> Iterator[None]:
    """Turn a write that fails for lack of space into an OutputError.

    Args:
        place: File or folder being written, for the message.
        remedy: Alternative to making room, for the message.

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
    """Build the error for a full disk."""
    return OutputError(f"{place}: no space left there, so nothing was written; make room, or {remedy}")


def _is_out_of_space(work_dir: Path, log: str) -> bool:
    """Judge by the child's log or, since a full disk has no room for a log either, by the free space of the disk."""
    return any(os.strerror(code) in log for code in _NO_SPACE) or shutil.disk_usage(work_dir).free < _FULL_BYTES
