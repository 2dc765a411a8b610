"""Benchmarks of a bundle's exports against the full Keras model."""
