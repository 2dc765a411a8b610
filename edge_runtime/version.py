"""The version, for those who may not import the package's root, which knows everything."""

from __future__ import annotations

__version__ = "0.1.0"
