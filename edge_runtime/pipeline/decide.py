"""Decisions over frames: smoothing, threshold and events."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.classifier import answer_of
from edge_runtime.contract import OutputSpec
from edge_runtime.errors import UsageError
from edge_runtime.results import Decision

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier


_MOST_FRAMES = 1000


class Smoothing(Protocol):
    """Combination of the answers of recent frames."""

    def add(self, probabilities: NDArray[np.float32]) -> tuple[int | None, float]:
        """Add the probabilities of one frame.

        Args:
            probabilities: Probabilities of the labels, float32 [labels], 0..1.

        Returns:
            Index of the common label and its score, or None and the score of the latest answer.
        """
        ...

    def forget(self) -> None:
        """Forget past frames, because the next ones do not continue them."""
        ...


class KOfN(Smoothing):
    """Label that is the answer of at least ``k`` of the last ``n`` frames; its score is its mean over those frames.

    Args:
        k: Votes required, more than half of ``n``, so that only one label can have them.
        n: Window, in frames, 1..1000.
        output: Output spec, which turns probabilities into an answer.

    Raises:
        UsageError: ``k`` or ``n`` is out of range.
    """

    def __init__(self, k: int, n: int, output: OutputSpec) -> None:
        if not 1 <= n <= _MOST_FRAMES or not n // 2 < k <= n:
            raise UsageError(
                f"--smooth {k}/{n}: expected K/N with N up to {_MOST_FRAMES} and K more than half of N, such as 3/5"
            )
        self._k, self._output = k, output
        self._recent: deque[tuple[int, float]] = deque(maxlen=n)

    def add(self, probabilities: NDArray[np.float32]) -> tuple[int | None, float]:
        """See `Smoothing.add`."""
        answer = answer_of(probabilities, self._output)
        self._recent.append((answer, float(probabilities[answer])))
        # A label with more than half of the votes is the median of the sorted answers.
        answers = sorted(index for index, _ in self._recent)
        common = answers[len(answers) // 2]
        scores = [score for index, score in self._recent if index == common]
        if len(scores) < self._k:
            return None, float(probabilities[answer])
        return common, sum(scores) / len(scores)

    def forget(self) -> None:
        """See `Smoothing.forget`."""
        self._recent.clear()


class Exponential(Smoothing):
    """Answer of an exponential moving average of the probabilities: ``alpha * new + (1 - alpha) * old``.

    Args:
        alpha: Weight of the newest frame, above 0 and at most 1.
        output: Output spec, which turns probabilities into an answer.

    Raises:
        UsageError: ``alpha`` is out of range.
    """

    def __init__(self, alpha: float, output: OutputSpec) -> None:
        if not 0.0 < alpha <= 1.0:
            raise UsageError(f"--smooth {alpha:g}: expected a weight above 0 and at most 1, such as 0.3")
        self._alpha, self._output = np.float32(alpha), output
        self._average: NDArray[np.float32] | None = None

    def add(self, probabilities: NDArray[np.float32]) -> tuple[int | None, float]:
        """See `Smoothing.add`."""
        old = probabilities if self._average is None else self._average
        self._average = self._alpha * probabilities + (np.float32(1.0) - self._alpha) * old
        answer = answer_of(self._average, self._output)
        return answer, float(self._average[answer])

    def forget(self) -> None:
        """See `Smoothing.forget`."""
        self._average = None


@dataclass(frozen=True)
class DecisionRule:
    """Conditions of decisions and events.

    Attributes:
        threshold: Lowest score of a decision, 0..1.
        ignored: Labels without a decision, such as a background class.
        min_interval_s: Shortest time between two events, in seconds of the source's clock.
    """

    threshold: float = 0.0
    ignored: Collection[str] = ()
    min_interval_s: float = 0.0


class Decider:
    """Turn each frame's probabilities into a `Decision`. Not thread-safe.

    An event is a decision whose label differs from the last announced one; after frames without a decision the same
    label is announced again. A change within the minimum interval is announced at its end, if it still holds.

    Args:
        labels: Labels in output order.
        smoothing: Combination of the answers of recent frames.
        rule: Conditions of decisions and events.
    """

    def __init__(self, labels: Sequence[str], smoothing: Smoothing, rule: DecisionRule) -> None:
        self._labels, self._smoothing, self._rule = labels, smoothing, rule
        self._announced: str | None = None
        self._last_event_s: float | None = None

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        smooth: str = "3/5",
        *,
        threshold: float | None = None,
        ignored: Collection[str] = (),
        min_interval_s: float = 0.0,
    ) -> Decider:
        """Make the decider for a classifier's answers.

        Args:
            classifier: Classifier with labels, output spec and reject threshold.
            smooth: Smoothing as text, see `parse_smoothing`.
            threshold: Lowest score of a decision, 0..1; None takes the model's reject threshold.
            ignored: Labels without a decision.
            min_interval_s: Shortest time between two events, in seconds.

        Raises:
            UsageError: The model has no such label to ignore, or the smoothing is invalid.
        """
        unknown = [label for label in ignored if label not in classifier.labels]
        if unknown:
            raise UsageError(f"--ignore {unknown[0]}: is no label of this model; edge-run inspect lists them")
        threshold = classifier.reject_threshold if threshold is None else threshold
        rule = DecisionRule(threshold, frozenset(ignored), min_interval_s)
        return cls(classifier.labels, parse_smoothing(smooth, classifier.output_spec), rule)

    def decide(self, probabilities: NDArray[np.float32], time_s: float) -> Decision:
        """Decide on one more frame.

        Args:
            probabilities: Probabilities of the labels, float32 [labels], 0..1.
            time_s: Time of the frame, in seconds by a monotonic clock.
        """
        index, score = self._smoothing.add(probabilities)
        label = None if index is None or score < self._rule.threshold else self._labels[index]
        if label is None or label in self._rule.ignored:
            self._announced = None
            return Decision(None, score, event=False)
        event = label != self._announced and self._may_tell(time_s)
        if event:
            self._announced, self._last_event_s = label, time_s
        return Decision(label, score, event)

    def forget(self) -> None:
        """Forget past frames after an interruption of the source."""
        self._smoothing.forget()
        self._announced = None

    def _may_tell(self, time_s: float) -> bool:
        # A video that starts again goes back in time, which must not suppress events.
        last_s = self._last_event_s
        return last_s is None or time_s < last_s or time_s - last_s >= self._rule.min_interval_s


def parse_smoothing(text: str, output: OutputSpec) -> Smoothing:
    """Parse ``--smooth``: ``3/5`` (k of n frames), ``0.3`` (weight of the newest in an average), or ``none``.

    Raises:
        UsageError: The text has another form.
    """
    if text == "none":
        return KOfN(1, 1, output)
    k_of_n = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if k_of_n:
        return KOfN(int(k_of_n[1]), int(k_of_n[2]), output)
    if re.fullmatch(r"[0-9]*\.?[0-9]{1,9}", text):
        return Exponential(float(text), output)
    raise UsageError(f"--smooth {text}: expected K/N such as 3/5, a weight such as 0.3, or none")
