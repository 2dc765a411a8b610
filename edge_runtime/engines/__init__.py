"""Runtimes behind one protocol: LiteRT, tflite-runtime, ONNX Runtime and the Edge TPU delegate."""
