"""Start time of a measuring child. The child programs import this before anything else of the package."""

from __future__ import annotations

import time

STARTED_NS = time.monotonic_ns()
"""Of ``time.monotonic_ns``; what is imported after it counts as importing, not as starting Python."""
