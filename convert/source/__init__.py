"""Inspection of the model to convert, without TensorFlow, and choice of its images."""
