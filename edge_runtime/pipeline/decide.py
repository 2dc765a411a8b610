"""Decisions over frames: smoothing, threshold and events."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.contract import OutputSpec
from edge_runtime.decision import answer_of
from edge_runtime.errors import UsageError
from edge_runtime.results import Decision

if TYPE_CHECKING:
    from edge_runtime.classifier import Classifier


_MOST_FRAMES = 1000


class Smoothing(Protocol):
    """Says what recent frames have in common."""

    def add(self, probabilities: NDArray[np.float32]) -> tuple[int | None, float]:
        """Take the probabilities of one more frame.

        Args:
            probabilities: float32 [labels], 0..1.

        Returns:
            Index of the label that they agree on, or None; and its score, or that of the strongest where there is none.
        """
        ...

    def forget(self) -> None:
        """Begin anew, because the frames to come do not follow on those that were."""
        ...


class KOfN(Smoothing):
    """A label that is the answer of at least ``k`` of the last ``n`` frames; its score is its mean over those frames.

    Args:
        k: At least so many, more than half of ``n``, so that no two labels can have them.
        n: Of so many.
        output: How probabilities become an answer.

    Raises:
        UsageError: ``k`` or ``n`` out of range.
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
        # More than half of all can be one label only, and that is the one in the middle of them in order.
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
    """The answer of an exponential average of the probabilities: ``alpha * new + (1 - alpha) * old``.

    Args:
        alpha: Weight of the newest frame, above 0 and at most 1.
        output: How probabilities become an answer.

    Raises:
        UsageError: ``alpha`` out of range.
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
    """When what frames agree on counts, and when it is worth telling.

    Attributes:
        threshold: Score 0..1 under which there is no decision.
        ignored: Labels that mean "nothing there", such as a background class.
        min_interval_s: Least time between two events, in seconds of the source's own time.
    """

    threshold: float = 0.0
    ignored: Collection[str] = ()
    min_interval_s: float = 0.0


class Decider:
    """Turns each frame's probabilities into a `Decision`. Not thread-safe.

    An event is a decision whose label is not the one that was announced before; where frames agree on nothing in
    between, the same label is announced again. A change that comes sooner than the rule allows is announced as soon as
    it allows, if it still holds then.

    Args:
        labels: In output order.
        smoothing: What frames have in common.
        rule: When that counts.
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
        """The decider of a classifier's answers.

        Args:
            classifier: What answers.
            smooth: See `parse_smoothing`.
            threshold: As in `DecisionRule`; None takes the model's reject threshold.
            ignored: As in `DecisionRule`.
            min_interval_s: As in `DecisionRule`.

        Raises:
            UsageError: An ignored label that the model does not have, or a smoothing that makes no sense.
        """
        unknown = [label for label in ignored if label not in classifier.labels]
        if unknown:
            raise UsageError(f"--ignore {unknown[0]}: is no label of this model; edge-run inspect lists them")
        threshold = classifier.reject_threshold if threshold is None else threshold
        rule = DecisionRule(threshold, frozenset(ignored), min_interval_s)
        return cls(classifier.labels, parse_smoothing(smooth, classifier.output_spec), rule)

    def decide(self, probabilities: NDArray[np.float32], time_s: float) -> Decision:
        """Take the probabilities of one more frame.

        Args:
            probabilities: float32 [labels], 0..1.
            time_s: When the frame was, in seconds by a clock that does not jump.
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
        """The source was away: what was seen before says nothing about what comes."""
        self._smoothing.forget()
        self._announced = None

    def _may_tell(self, time_s: float) -> bool:
        # A video that starts again goes back in time, which must not silence it.
        last_s = self._last_event_s
        return last_s is None or time_s < last_s or time_s - last_s >= self._rule.min_interval_s


def parse_smoothing(text: str, output: OutputSpec) -> Smoothing:
    """Parse ``--smooth``: ``3/5`` (k of n frames), ``0.3`` (weight of the newest in an average), or ``none``.

    Raises:
        UsageError: Something else.
    """
    if text == "none":
        return KOfN(1, 1, output)
    k_of_n = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    if k_of_n:
        return KOfN(int(k_of_n[1]), int(k_of_n[2]), output)
    if re.fullmatch(r"[0-9]*\.?[0-9]{1,9}", text):
        return Exponential(float(text), output)
    raise UsageError(f"--smooth {text}: expected K/N such as 3/5, a weight such as 0.3, or none")
