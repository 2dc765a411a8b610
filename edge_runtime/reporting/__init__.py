"""What the HTML reports of training, conversion and benchmarks share. Nothing that runs on a device loads it."""
