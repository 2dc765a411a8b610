"""Measuring processes: one child a model, and the schedule that asks them in turn."""

import time

STARTED_NS = time.monotonic_ns()
"""First line of a measuring child, of ``time.monotonic_ns``: imports after it are counted as importing."""
