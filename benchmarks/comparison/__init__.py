"""Comparison of two reports: differences, their significance, and limits for a gate."""
