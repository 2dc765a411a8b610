"""The git revision of the checkout that edgekit runs from; the user's own repositories are none of our business."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Revision:
    """A commit, in hexadecimal, and whether tracked files were altered since; None where git does not say."""

    commit: str | None
    is_dirty: bool | None


def revision_of(folder: Path) -> Revision | None:
    """The revision of a checkout whose top is ``folder``; nothing in it is written.

    Returns:
        None where git is absent, fails, or the folder is no checkout (a repository further up does not count: an
        installed package may lie in a virtual environment inside somebody's repository).
    """
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return None
    commit = _ask(git, folder, "rev-parse", "--verify", "HEAD")
    if not commit:
        return None
    changes = _ask(git, folder, "status", "--porcelain", "--untracked-files=no")
    return Revision(commit, None if changes is None else bool(changes))


def _ask(git: str, folder: Path, *arguments: str) -> str | None:
    # A hook or an outer git sets GIT_DIR, which would name another repository; status would refresh the index.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            [git, "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**inherited, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
