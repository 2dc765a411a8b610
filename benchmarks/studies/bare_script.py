"""Minimal script for one image, to compare a cold start with: ``python bare_script.py MODEL.tflite PHOTO``."""

from __future__ import annotations

import sys

import cv2
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
tensor = interpreter.get_input_details()[0]
image_hwc_rgb_u8 = cv2.cvtColor(cv2.imread(sys.argv[2]), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]  # may be None
interpreter.set_tensor(tensor["index"], cv2.resize(image_hwc_rgb_u8, tuple(tensor["shape"][2:0:-1]))[None])
interpreter.invoke()
print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
