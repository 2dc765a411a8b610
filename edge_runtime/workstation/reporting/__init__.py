"""Shared parts of the HTML reports of training, conversion and benchmarks."""
