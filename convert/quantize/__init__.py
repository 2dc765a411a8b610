"""Quantization of the float32 model: calibration, rounding, repair. Never imports TensorFlow."""
