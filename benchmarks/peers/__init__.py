"""Other tools on the same images and the same machine. Run from a checkout: ``python -m benchmarks.peers``."""
