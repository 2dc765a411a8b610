"""How long one invocation takes on this machine, the artefacts taking turns so that all see the same disturbances."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.engines.base import Engine

_INVOKES_A_TURN = 10
_FEWEST_INVOKES = 3
_MOST_TURNS = 20
_BUDGET_NS = 400_000_000
_NS_PER_MS = 1e6


def median_latencies(engines: Sequence[Engine], image_hwc_rgb_u8: NDArray[np.uint8]) -> list[float]:
    """Median latency of one invocation of each engine, in milliseconds.

    In its turn an engine runs ten timed invocations after one that is not, which brings its weights back into the
    cache, as on a device that runs one model. It has 20 turns, or fewer once its timed invocations took 0.4 s.

    Args:
        engines: Opened with one thread, of one input shape.
        image_hwc_rgb_u8: uint8 [H, W, 3], what they are run on.
    """
    taken_ns: list[list[int]] = [[] for _ in engines]
    for turn in range(_MOST_TURNS):
        # Every other round goes backwards, so that none always follows the same one.
        for index in range(len(engines))[:: 1 if turn % 2 == 0 else -1]:
            _take_turn(engines[index], image_hwc_rgb_u8, taken_ns[index])
    return [statistics.median(values) / _NS_PER_MS for values in taken_ns]


def _take_turn(engine: Engine, image_hwc_rgb_u8: NDArray[np.uint8], taken_ns: list[int]) -> None:
    """Add the latencies of one turn, in nanoseconds, as far as the engine's time allows."""
    if sum(taken_ns) >= _BUDGET_NS:
        return
    tensor = image_hwc_rgb_u8[np.newaxis].astype(engine.input.dtype, copy=False)
    engine.invoke(tensor)
    for _ in range(_INVOKES_A_TURN):
        if len(taken_ns) >= _FEWEST_INVOKES and sum(taken_ns) >= _BUDGET_NS:
            break
        started = time.perf_counter_ns()
        engine.invoke(tensor)
        taken_ns.append(time.perf_counter_ns() - started)
