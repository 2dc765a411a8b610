"""Bodies of the ``edge-run`` commands."""
