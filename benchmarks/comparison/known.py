"""The reference reports that come with edgekit, by name."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.errors import UsageError
from edge_runtime.labels import shorten

PREFIX = "reference:"
REFERENCE_FOLDER = Path(__file__).resolve().parents[1] / "reference"
_SHOWN = 20


def find_report(name: str, folder: Path = REFERENCE_FOLDER) -> Path:
    """The path of a report that was named on a command line: a path, or ``reference:BOARD/MODEL``.

    Raises:
        UsageError: No reference report of this name.
    """
    if not name.startswith(PREFIX):
        return Path(name)
    known = known_references(folder)
    wanted = name.removeprefix(PREFIX)
    if wanted not in known:
        listed = ", ".join([*list(known)[:_SHOWN], *(["..."] if len(known) > _SHOWN else [])])
        raise UsageError(
            f"{shorten(name)}: no reference report of this name; "
            + (f"known are {listed}" if known else "this installation has none")
        )
    return known[wanted]


def known_references(folder: Path = REFERENCE_FOLDER) -> dict[str, Path]:
    """Every reference report by its name, ``<board>-<cpu>-<os>/<model>``, sorted."""
    return {f"{path.parent.name}/{path.stem}": path for path in sorted(folder.glob("*/*.json"))}
