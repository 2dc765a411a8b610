"""Integers from the float32 model: calibration, rounding, repair; no TensorFlow in here."""
