"""Child processes that isolate a runtime or a library: how one is started, dies with its parent, and is reported."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_ROOT = str(Path(__file__).resolve().parents[2])
# sys.argv of the child: its parent, the number of search places, these, the module, its arguments.
_PROGRAM = (
    "import sys; parent, count = map(int, sys.argv[1:3]); sys.path[:] = sys.argv[3 : 3 + count]; "
    "sys.argv[:] = sys.argv[3 + count :]; "
    "from edge_runtime.platform.childproc import die_with_parent; die_with_parent(parent); "
    "import importlib; importlib.import_module(sys.argv[0]).main()"
)


def isolated_command(module: str, *arguments: str) -> list[str]:
    """Build the command that runs ``main()`` of a module in a Python with this process' search path.

    The child dies with this process. It ignores the environment's PYTHON variables and the current folder:
    ``python -m`` would look there first, and a user's folder may hold any ``json.py``. The package's own folder is
    added, because an editable installation is found by a hook and not by a path.

    Args:
        module: Dotted name of the module; it must have a function ``main`` without parameters.
        arguments: Arguments of the child, its ``sys.argv[1:]``.
    """
    places = [entry for entry in sys.path if entry]
    places = places if _ROOT in places else [_ROOT, *places]
    counts = [str(os.getpid()), str(len(places))]
    return [sys.executable, "-I", "-c", _PROGRAM, *counts, *places, module, *arguments]


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, also in the middle of native code (prctl(2)).

    Args:
        parent: Process ID of the parent, from before this process began: it may have died already, which Linux tells
            nobody afterwards.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def signal_name(number: int) -> str:
    """Name a signal, ``SIGSEGV``; ``signal 77`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_line(output: bytes) -> str:
    """Give the last line of a child's output that is not blank, stripped; empty where there is none."""
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
