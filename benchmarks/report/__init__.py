"""Benchmark report: tables, plots, verdict, page and schema."""
