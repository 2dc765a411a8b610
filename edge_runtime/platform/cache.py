"""Locate the cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$EDGEKIT_CACHE``, else ``edgekit`` under the user's cache folder (XDG). Anything in it may be removed."""
    if "EDGEKIT_CACHE" in os.environ:
        return Path(os.environ["EDGEKIT_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"
