"""Wait for conditions and processes; a deadline is long, because it only bounds a failure."""

import time
from pathlib import Path


def wait_until(condition, what="the condition", *, deadline_s=60.0, step_s=0.01):
    """Call a condition until it is true, and return what it gave.

    Args:
        condition: Function without parameters.
        what: Name of the condition, for the message of the failure.
        deadline_s: Seconds until the test fails.
        step_s: Seconds between two calls.
    """
    end_s = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"waited too long for: {what}"
        time.sleep(step_s)
    return found


def is_running(pid):
    """Tell whether a process exists; a zombie does not run."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return False
