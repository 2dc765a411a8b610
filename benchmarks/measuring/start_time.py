"""Start time of a measuring child; the child programs import this module before all others."""

from __future__ import annotations

import time

STARTED_NS = time.monotonic_ns()
"""Moment of ``time.monotonic_ns``: imports after it count as importing, not as starting Python."""
