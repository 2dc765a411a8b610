"""Studies of one question each: the figures in RESULTS.md that `edge-bench` does not give. Run with `python -m`."""
