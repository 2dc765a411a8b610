"""Run directory to bundle: exports, checks in a process without TensorFlow, and packs a model."""
