"""MLPerf Tiny's image classification. Run from a checkout: ``python -m benchmarks.mlperf_tiny``."""
