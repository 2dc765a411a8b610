"""Contents of a comparison: frozen dataclasses."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass

from benchmarks.records import NotMeasured
from benchmarks.statistics import Interval
from edge_runtime.errors import UsageError
from edge_runtime.strict import to_mapping

COMPARISON_SCHEMA_VERSION = 1
ALPHA = 0.05
"""How often all tests of a comparison together may call a difference that is none."""


class Unit(str, enum.Enum):
    """Of the two figures of a difference."""

    PERCENT = "%"
    MILLISECONDS = "ms"
    IMAGES_PER_SECOND = "images/s"
    BYTES = "bytes"
    TIMES = "x"


class Outcome(str, enum.Enum):
    """What a difference means."""

    REGRESSION = "regression"
    """Worse by more than the limit, and surely so."""
    UNSURE = "unsure"
    """Worse by more than the limit, which may be chance."""
    IMPROVEMENT = "improvement"
    """Better by more than the limit, and surely so."""
    WITHIN = "within"
    """Neither."""
    SHOWN = "shown"
    """Not judged: another figure says it better, or it is no figure of an artifact."""


@dataclass(frozen=True)
class Limits:
    """How much worse a report may be than the one before.

    Attributes:
        max_drop_points: Accuracy may fall by so many percentage points.
        max_slowdown: Times may grow by such a share, and throughput may fall as that makes it fall; 0.1 is 10 %.
        max_growth: Files and memory may grow by such a share.
    """

    max_drop_points: float = 1.0
    max_slowdown: float = 0.10
    max_growth: float = 0.10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name}: expected a limit of 0 or more, got {value}")


@dataclass(frozen=True)
class Difference:
    """One figure in both reports.

    Attributes:
        metric: Such as ``top-1 accuracy`` or ``p50 against keras-function``.
        unit: Of ``before`` and ``after``.
        before: In the first report.
        after: In the second.
        change: After less before; percentage points for accuracy, else per cent of before.
        interval: 95 % interval of it, not adjusted for the number of comparisons; None where nothing says one.
        p: P value that nothing changed, adjusted for the number of comparisons; None where it is not tested.
        method: How the interval and the p value were found, or why there are none.
        limit: How much worse it may be, in the unit of ``change``.
        outcome: What it means.
    """

    metric: str
    unit: Unit
    before: float
    after: float
    change: float
    interval: Interval | None
    p: float | None
    method: str
    limit: float
    outcome: Outcome


@dataclass(frozen=True)
class SubjectComparison:
    """A model that both reports measured.

    Attributes:
        name: The artifact's variant, or ``keras-...``.
        same_file: Whether both measured the same model file.
        differences: Its figures; what could not be compared is missing.
        not_compared: What is missing, each with its reason.
        notes: What changed around it, such as its runtime.
    """

    name: str
    same_file: bool
    differences: tuple[Difference, ...]
    not_compared: tuple[NotMeasured, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Unmatched:
    """A model that was not measured in both reports, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Side:
    """One of the two reports.

    Attributes:
        name: As the user said it.
        created_utc: When it was measured.
        tool: With which version.
        model_name: What it measured.
        cpu_model: On what.
        images: On how many images.
    """

    name: str
    created_utc: str
    tool: str
    model_name: str
    cpu_model: str
    images: int


@dataclass(frozen=True)
class Comparison:
    """Two reports beside each other.

    Attributes:
        before: The first.
        after: The second.
        limits: How much worse the second may be.
        reference: The model that latencies were divided by, because it shows how fast the machine was; or None.
        method: Sentences on how latencies were compared and how significance was adjusted.
        differences: What differs between the reports themselves, one sentence each; loudest first.
        not_compared: What could not be compared for any model.
        subjects: In the order of the first report.
        only_before: Measured in the first alone.
        only_after: Measured in the second alone.
        in_neither: Asked for and measured in neither.
        regressions: One sentence each; empty where nothing is surely worse by more than allowed.
        unsure: The same of what may be chance.
        schema_version: `COMPARISON_SCHEMA_VERSION`.
    """

    before: Side
    after: Side
    limits: Limits
    reference: str | None
    method: tuple[str, ...]
    differences: tuple[str, ...]
    not_compared: tuple[NotMeasured, ...]
    subjects: tuple[SubjectComparison, ...]
    only_before: tuple[Unmatched, ...]
    only_after: tuple[Unmatched, ...]
    in_neither: tuple[Unmatched, ...]
    regressions: tuple[str, ...]
    unsure: tuple[str, ...]
    schema_version: int = COMPARISON_SCHEMA_VERSION

    @property
    def is_whole(self) -> bool:
        """Whether everything that the first report holds was compared."""
        return not (self.not_compared or self.only_before or any(item.not_compared for item in self.subjects))

    def to_json(self) -> str:
        """JSON text with a final newline; plain ASCII, because names of files may be bytes that are no text."""
        return json.dumps(to_mapping(self), indent=2, allow_nan=False) + "\n"
