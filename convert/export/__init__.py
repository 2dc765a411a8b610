"""Export from Keras or SavedModel to float32 TFLite and ONNX, in a child process that imports TensorFlow."""
