"""What the trained model answers: scores, calibration, thresholds."""
