"""Settings of a benchmark run, recorded in its report; without heavy imports, since the command line imports it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

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
    """The choices of ``edge-bench run``.

    Attributes:
        split: Part of the data; None takes test, else validation.
        limit: Largest number of images, or None.
        variants: Artifacts to measure; empty takes all.
        scenarios: Timed scenarios; single-stream is always among them.
        sessions: Fresh processes of each model that are timed.
        rounds: Rounds of bursts in each session; in each round every model is timed once, in random order.
        min_duration_s: Least single-stream time of each model, over all its bursts.
        min_queries: Least number of single-stream calls of each model, over all its bursts.
        starts: Cold starts of each artifact, the starts of the sessions included.
        threads: Threads inside one inference.
        sweep_threads: Thread counts of the sweep.
        camera_fps: Frame rate of the paced camera.
        seed: Seed of the order and of the drawn images.
        quick: True if ``--quick`` chose the other settings.
        timeout_s: Seconds after which a measuring process that does not answer is stopped.
        power: Name of the power reader, or None for the first one found.
    """

    split: str | None = None
    limit: int | None = None
    variants: tuple[str, ...] = ()
    scenarios: tuple[Scenario, ...] = tuple(Scenario)
    sessions: int = 2
    rounds: int = 10
    min_duration_s: float = 3.0
    min_queries: int = 100
    starts: int = 3
    threads: int = 1
    sweep_threads: tuple[int, ...] = ()
    camera_fps: float = 30.0
    seed: int = 0
    quick: bool = False
    timeout_s: float = 600.0
    power: str | None = None

    def __post_init__(self) -> None:
        if Scenario.SINGLE_STREAM not in self.scenarios:
            raise UsageError("single-stream cannot be left out: every other figure is reported beside it")

    def wants(self, scenario: Scenario) -> bool:
        """Tell whether a scenario is to be timed."""
        return scenario in self.scenarios
