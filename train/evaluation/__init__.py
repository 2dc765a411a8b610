"""Evaluation of the trained model: scores, calibration, thresholds."""
