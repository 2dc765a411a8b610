"""What was seen of one model, raw: from the measuring processes to `benchmarks.assembly`."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring.protocol import Burst, CameraTrace, Memory, OfflineRun, StageTimes
from benchmarks.plan import SubjectPlan
from benchmarks.records.performance import NotMeasured


@dataclass(frozen=True)
class Start:
    """One cold start, in nanoseconds since the moment before the process was made.

    Attributes:
        interpreter_ns: Until the child's first line of Python.
        import_ns: Importing the libraries.
        load_ns: Opening the model.
        first_ns: Decoding, preparing and classifying the first picture.
    """

    interpreter_ns: int
    import_ns: int
    load_ns: int
    first_ns: int

    @property
    def total_ns(self) -> int:
        """The whole start."""
        return self.interpreter_ns + self.import_ns + self.load_ns + self.first_ns


@dataclass
class Measurement:
    """What was seen of one subject; filled while the schedule runs.

    Attributes:
        plan: The subject.
        error: Why it was not measured, or None. Then nothing below may be relied on.
        runtime: Runtime and version.
        delegate: What runs the operators, or None.
        tensorflow_loaded: Whether TensorFlow, Keras or JAX was in the process.
        probabilities: float32 [pictures, labels], or None.
        starts: Cold starts.
        bursts: Single-stream bursts; index i is round i of the whole benchmark, over all sessions, for every subject.
        stages: Or None.
        offline: Bursts of the offline scenario.
        camera: Or None.
        threads: Bursts by thread count.
        memory: After the single-stream bursts of the last session, or None.
        energy_mj: Energy above idle of all timed calls of the metered bursts, and how many calls these were; or None.
        not_measured: What could not be measured though it was asked for, or does not apply.
    """

    plan: SubjectPlan
    error: str | None = None
    runtime: str = ""
    delegate: str | None = None
    tensorflow_loaded: bool = False
    probabilities: NDArray[np.float32] | None = None
    starts: list[Start] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    stages: StageTimes | None = None
    offline: list[OfflineRun] = field(default_factory=list)
    camera: CameraTrace | None = None
    threads: dict[int, list[Burst]] = field(default_factory=dict)
    memory: Memory | None = None
    energy_mj: tuple[float, int] | None = None
    not_measured: list[NotMeasured] = field(default_factory=list)
