"""Contents of a comparison, and the wording of one difference."""

from __future__ import annotations

import enum
import json
import math
from dataclasses import dataclass

from benchmarks.records import NotMeasured
from benchmarks.statistics import Interval
from edge_runtime.errors import UsageError
from edge_runtime.strict import to_mapping
from edge_runtime.workstation.reporting.wording import megabytes, p_value, signed, significant

COMPARISON_SCHEMA_VERSION = 1
ALPHA = 0.05
"""Chance, 0..1, that all tests of a comparison together call a difference where nothing changed."""


class Unit(str, enum.Enum):
    """Unit of the two figures of a difference."""

    PERCENT = "%"
    MILLISECONDS = "ms"
    IMAGES_PER_SECOND = "images/s"
    BYTES = "bytes"
    TIMES = "x"


class Outcome(str, enum.Enum):
    """Judgement of a difference."""

    REGRESSION = "regression"
    """Significantly worse, by more than the limit."""
    UNSURE = "unsure"
    """Worse by more than the limit, but not significantly."""
    IMPROVEMENT = "improvement"
    """Significantly better, by more than the limit."""
    WITHIN = "within"
    """Within the limit."""
    SHOWN = "shown"
    """Not judged: another figure is judged instead, or it is no figure of an artifact."""


@dataclass(frozen=True)
class Limits:
    """Largest changes for the worse that pass.

    Attributes:
        max_drop_points: Largest loss of accuracy, in percentage points.
        max_slowdown: Largest growth of times, as a share (0.1 is 10 %); throughput may fall accordingly.
        max_growth: Largest growth of files and memory, as a share.
    """

    max_drop_points: float = 1.0
    max_slowdown: float = 0.10
    max_growth: float = 0.10

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name}: expected a limit of 0 or more, got {value}")


def is_beyond(value: float, limit: float) -> bool:
    """Tell whether a value exceeds a limit by more than rounding."""
    return value > limit + 1e-9


@dataclass(frozen=True)
class Difference:
    """One metric in both reports.

    Attributes:
        metric: Name, such as ``top-1 accuracy`` or ``p50 against keras-function``.
        unit: Unit of ``before`` and ``after``.
        before: Figure of the first report.
        after: Figure of the second report.
        change: After minus before; percentage points for accuracy, else per cent of before.
        interval: 95 % interval of the change, not adjusted for multiple tests; None where there is none.
        p: P value of no change, adjusted for multiple tests once judged; None where it is not tested.
        method: Origin of interval and p value, or the reason why there are none.
        limit: Largest change for the worse, in the unit of ``change``.
        outcome: Judgement by limit and significance.
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

    @property
    def change_unit(self) -> str:
        """Unit of the change and the limit."""
        return "points" if self.unit is Unit.PERCENT else "%"

    def shown_figure(self, value: float) -> str:
        """Write one of the two figures with its unit."""
        if self.unit is Unit.BYTES:
            return megabytes(int(value))
        return f"{value:.1f} %" if self.unit is Unit.PERCENT else f"{significant(value)} {self.unit.value}"

    def shown_change(self) -> str:
        """Write the change, such as ``-3.0 points`` or ``+20.4 %``."""
        return f"{signed(self.change, 1)} {self.change_unit}"

    def shown_interval(self) -> str:
        """Write the interval, such as ``-4.1 to -1.9``; empty without one."""
        return f"{signed(self.interval.low, 1)} to {signed(self.interval.high, 1)}" if self.interval else ""

    def describe(self) -> str:
        """Write the difference as the rest of a sentence."""
        tested = "" if self.p is None else f", p {p_value(self.p)}"
        unit = "point" if self.unit is Unit.PERCENT and self.limit == 1 else self.change_unit
        figures = f"{self.shown_figure(self.before)} -> {self.shown_figure(self.after)}"
        return f"{self.metric} {figures} ({self.shown_change()}{tested}; limit {self.limit:.3g} {unit})."


@dataclass(frozen=True)
class SubjectComparison:
    """One model that both reports measured.

    Attributes:
        name: Variant of the artifact, or ``keras-...``.
        same_file: True if both reports measured the same model file.
        differences: Metrics that were compared.
        not_compared: Metrics that could not be compared, each with its reason.
        notes: Changes around the model, such as its runtime.
    """

    name: str
    same_file: bool
    differences: tuple[Difference, ...]
    not_compared: tuple[NotMeasured, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Unmatched:
    """One model that was not measured in both reports, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True)
class Side:
    """Origin of one of the two reports.

    Attributes:
        name: Path or name as given by the user.
        created_utc: Time of the measurement.
        tool: Name and version of the measuring tool.
        model_name: Name of the measured model.
        cpu_model: Processor of the machine.
        images: Number of images.
    """

    name: str
    created_utc: str
    tool: str
    model_name: str
    cpu_model: str
    images: int


@dataclass(frozen=True)
class Comparison:
    """Differences between two reports.

    Attributes:
        before: Origin of the first report.
        after: Origin of the second report.
        limits: Largest changes for the worse that pass.
        reference: Model that latencies were divided by, because it shows the speed of the machine; or None.
        method: Sentences on the comparison of latencies and the adjustment of p values.
        differences: Differences of machine, settings, data and models, one sentence each; most important first.
        not_compared: Metrics that could not be compared for any model.
        subjects: Compared models, in the order of the first report.
        only_before: Models measured in the first report only.
        only_after: Models measured in the second report only.
        in_neither: Models requested and measured in neither report.
        regressions: One sentence for each significant change for the worse beyond its limit.
        unsure: One sentence for each change beyond its limit that is not significant.
        schema_version: Version of this form, `COMPARISON_SCHEMA_VERSION`.
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
        """True if everything that the first report holds was compared."""
        return not (self.not_compared or self.only_before or any(item.not_compared for item in self.subjects))

    def to_json(self) -> str:
        """Serialise to JSON with a final newline; plain ASCII, because file names may be bytes that are no text."""
        return json.dumps(to_mapping(self), indent=2, allow_nan=False) + "\n"
