"""Statistics of shares and of paired answers, for training, conversion and benchmarks alike."""
