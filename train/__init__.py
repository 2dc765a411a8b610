"""Photos to run directory: trains a Keras 3 image classifier over the device's own preprocessing."""

from __future__ import annotations

import os

# TensorFlow reads this once, when it is imported: its start-up chatter would bury our own lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
