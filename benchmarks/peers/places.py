"""Where the peers' virtual environments are, and why one is not there."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.labels import shorten

OWN = "edgekit"
PIP_SAID = "pip.txt"
_MAX_LOG_BYTES = 1 << 20
_REASON_CHARACTERS = 300


@dataclass(frozen=True)
class Places:
    """A folder with a virtual environment ``.venv-PEER`` for each peer, as ``make bench-peers`` lays them out.

    Attributes:
        root: The checkout.
    """

    root: Path

    def python(self, environment: str) -> Path | None:
        """The Python of an environment, or None where it was not made or its set-up did not end well."""
        if environment == OWN:
            return Path(sys.executable)
        folder = self.root / f".venv-{environment}"
        # Absolute, but not resolved: the link is what tells Python in which environment it is.
        program = Path(os.path.abspath(folder / "bin" / "python"))  # noqa: PTH100
        return program if program.exists() and any(folder.glob(".setup*")) else None

    def why_missing(self, environment: str) -> str:
        """One sentence: what the installation said, or how to install it."""
        try:
            with (self.root / f".venv-{environment}" / PIP_SAID).open("rb") as file:
                text = file.read(_MAX_LOG_BYTES).decode(errors="replace")
        except OSError:
            text = ""
        # pip names what it could not find in its last error; warnings stand between.
        errors = [line.strip() for line in text.splitlines() if line.startswith("ERROR")] or text.splitlines()
        if errors:
            return f"cannot be installed here: {shorten(errors[-1], _REASON_CHARACTERS)}"
        return f"no virtual environment .venv-{environment} in {self.root.name or self.root}; make bench-peers makes it"
