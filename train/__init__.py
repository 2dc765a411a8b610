"""Photos to run directory: trains a Keras 3 image classifier over the device's own preprocessing."""
