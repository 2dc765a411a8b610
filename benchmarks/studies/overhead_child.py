"""The bare side of ``harness_overhead.py``: LiteRT in a loop, as one writes it without any harness.

It speaks the protocol of a measuring child, but shares no measuring code with it: `benchmarks.measuring.protocol`
alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks.measuring.protocol import AskBurst, AskStages, Burst, Opened, StageTimes, decode, encode
from edge_runtime.model.bundle import find_model
from edge_runtime.preprocess import load_prepared


class BareLoop:
    """One interpreter, timed around three calls.

    Args:
        model: Path of the ``.tflite`` file; it takes uint8 [1, H, W, 3] RGB.
        threads: Threads inside one inference.
    """

    def __init__(self, model: str, threads: int) -> None:
        self._geometry: Any = find_model(Path(model)).input_spec
        self._interpreter = Interpreter(model_path=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, image_nhwc: Any) -> int:
        """Time one inference in nanoseconds."""
        before_ns = time.perf_counter_ns()
        self._interpreter.set_tensor(self._input, image_nhwc)
        self._interpreter.invoke()
        self._interpreter.get_tensor(self._output)
        return time.perf_counter_ns() - before_ns

    def stream(self, request: AskBurst) -> Burst:
        """Time inferences one after another."""
        images = np.load(request.images)
        inputs = [np.array(images[place * len(images) // 8, np.newaxis]) for place in range(8)]
        warm_until_s = time.perf_counter() + request.warm_up_s
        while time.perf_counter() < warm_until_s:
            self.run(inputs[0])
        latencies_ns: list[int] = []
        while sum(latencies_ns) < request.duration_s * 1e9 or len(latencies_ns) < request.queries:
            latencies_ns += [self.run(image) for image in inputs]
        return Burst(tuple(latencies_ns), 0, None)

    def files(self, request: AskStages) -> StageTimes:
        """Time inferences, each after its image file was decoded and prepared."""
        text = Path(request.paths).read_text(encoding="utf-8", errors="surrogateescape")
        paths = [Path(line) for line in text.split("\n") if line]
        self.run(load_prepared(paths[0], self._geometry)[np.newaxis])
        prepared = (load_prepared(path, self._geometry)[np.newaxis] for path in paths[: request.images])
        latencies_ns = tuple(self.run(image) for image in prepared)
        nothing = (0,) * len(latencies_ns)
        return StageTimes(nothing, nothing, latencies_ns, nothing)


def main() -> None:
    """Open the model and serve both kinds of request until the end of input."""
    started_ns = time.monotonic_ns()
    spec, replies = json.loads(sys.argv[1]), int(sys.argv[2])
    loop = BareLoop(spec["model"], spec["threads"])
    ready_ns = time.monotonic_ns()
    os.write(replies, encode(Opened("litert", None, started_ns, ready_ns, ready_ns, ready_ns)).encode())
    for line in sys.stdin:
        request = decode(line)
        reply = loop.stream(request) if isinstance(request, AskBurst) else loop.files(cast(AskStages, request))
        os.write(replies, encode(reply).encode())


if __name__ == "__main__":
    main()
