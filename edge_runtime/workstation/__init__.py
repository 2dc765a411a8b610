"""Labelled datasets, statistics and HTML reports for training, conversion and benchmarks; never loaded on a device."""
