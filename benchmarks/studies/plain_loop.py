"""Plain loop over a list of images, in ten lines: ``python plain_loop.py MODEL.tflite LIST`` prints the answers.

OpenCV, one interpreter, one thread. It stretches images without antialiasing, which is faster than the contract's
preprocessing, but not that of the training.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
from ai_edge_litert.interpreter import Interpreter


def open_model(model: str) -> Callable[[str], int]:
    """Open a model: a function from an image file to the index of its label, -1 where OpenCV cannot read it."""
    cv2.setNumThreads(1)
    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    given, asked = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    size_wh = tuple(given["shape"][2:0:-1])

    def answer(path: str) -> int:
        image_hwc_bgr_u8 = cv2.imread(path)
        if image_hwc_bgr_u8 is None:
            return -1
        image_hwc_rgb_u8 = cv2.resize(cv2.cvtColor(image_hwc_bgr_u8, cv2.COLOR_BGR2RGB), size_wh)
        interpreter.set_tensor(given["index"], image_hwc_rgb_u8[None])
        interpreter.invoke()
        return int(np.argmax(interpreter.get_tensor(asked)))

    return answer


if __name__ == "__main__":
    classify = open_model(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:  # noqa: PTH123  a script of its own, as a user writes it
        for line in file:
            print(line.rstrip("\n"), classify(line.rstrip("\n")))
