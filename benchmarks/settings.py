"""Settings of a benchmark run, recorded in its report; without heavy imports, since the command line imports it."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated

from edge_runtime.errors import UsageError


class Scenario(str, enum.Enum):
    """A timed scenario, named as in MLPerf where MLPerf has it."""

    SINGLE_STREAM = "single-stream"
    OFFLINE = "offline"
    CAMERA = "camera"
    STAGES = "stages"
    THREADS = "threads"


@dataclass(frozen=True)
class Settings:
    """The choices of ``edge-bench run``."""

    split: Annotated[str | None, "Part of the data; None takes test, else validation."] = None
    limit: Annotated[int | None, "Largest number of images, or None."] = None
    variants: Annotated[tuple[str, ...], "Artifacts to measure; empty takes all."] = ()
    scenarios: Annotated[tuple[Scenario, ...], "Timed scenarios; single-stream is always among them."] = tuple(Scenario)
    sessions: Annotated[int, "Fresh processes of each model that are timed."] = 2
    rounds: Annotated[
        int, "Rounds of bursts in each session; in each round every model is timed once, in random order."
    ] = 10
    min_duration_s: Annotated[float, "Least single-stream time of each model, over all its bursts."] = 3.0
    min_queries: Annotated[int, "Least number of single-stream calls of each model, over all its bursts."] = 100
    starts: Annotated[int, "Cold starts of each artifact, the starts of the sessions included."] = 3
    threads: Annotated[int, "Threads inside one inference."] = 1
    sweep_threads: Annotated[tuple[int, ...], "Thread counts of the sweep."] = ()
    camera_fps: Annotated[float, "Frame rate of the paced camera."] = 30.0
    seed: Annotated[int, "Seed of the order and of the drawn images."] = 0
    quick: Annotated[bool, "True if ``--quick`` chose the other settings."] = False
    timeout_s: Annotated[float, "Seconds after which a measuring process that does not answer is stopped."] = 600.0
    power: Annotated[str | None, "Name of the power reader, or None for the first one found."] = None

    def __post_init__(self) -> None:
        if Scenario.SINGLE_STREAM not in self.scenarios:
            raise UsageError("single-stream cannot be left out: every other figure is reported beside it")

    def wants(self, scenario: Scenario) -> bool:
        """Tell whether a scenario is to be timed."""
        return scenario in self.scenarios
