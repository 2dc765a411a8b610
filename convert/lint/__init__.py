"""Compatibility checks of a ``.tflite`` file for the Edge TPU and for given runtimes."""
