"""Conversion reports: terminal table, ``conversion.md`` and ``conversion.html``."""
