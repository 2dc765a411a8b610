"""Whether a `.tflite` maps to the Edge TPU or opens in a given runtime, told before a device tells it."""
