"""One subject on its way through the schedule: what was seen of it, its open process, and whether it is still in."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.measuring.measurement import Measurement
from benchmarks.measuring.session import Session
from benchmarks.plan import SubjectPlan
from benchmarks.records.performance import NotMeasured
from edge_runtime.cli_support import Progress
from edge_runtime.errors import EdgeKitError, EngineError


class Entrant:
    """A subject, from its first start to its last answer.

    Args:
        plan: The subject.
        steps: How many pieces of work there will be.
        progress: Called with the number of pieces that are over.

    Attributes:
        plan: The subject.
        measurement: What was seen of it.
    """

    def __init__(self, plan: SubjectPlan, steps: int, progress: Progress) -> None:
        self.plan, self.measurement = plan, Measurement(plan)
        self._session: Session | None = None
        self._left, self._progress = steps, progress

    @property
    def is_in(self) -> bool:
        """Whether nothing failed that everything else depends on."""
        return self.measurement.error is None

    @property
    def session(self) -> Session:
        """The open process.

        Raises:
            EngineError: There is none.
        """
        if self._session is None:
            raise EngineError("its process is not open")
        return self._session

    def enter(self, session: Session) -> None:
        """Take an open process and what it said at its start."""
        self._session = session
        self.measurement.starts.append(session.start)
        self.measurement.runtime, self.measurement.delegate = session.opened.runtime, session.opened.delegate

    def leave(self) -> None:
        """End the open process, where there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def must(self, work: Callable[[Entrant], None]) -> None:
        """Do a piece of work on this subject that everything else depends on; where it fails, the subject is out."""
        if not self.is_in:
            return
        try:
            work(self)
        except EdgeKitError as error:
            self.measurement.error = str(error)
            self.leave()
            self.finish()
        else:
            self._step(1)

    def may(self, what: str, work: Callable[[Entrant], None], undo: Callable[[], None] | None = None) -> None:
        """Do a piece of work on this subject whose failure is listed; ``undo`` then forgets what it began.

        After a failure the same ``what`` is not tried again.
        """
        if not self.is_in:
            return
        if not any(item.what == what for item in self.measurement.not_measured):
            try:
                work(self)
            except EdgeKitError as error:
                self.note(what, str(error))
                if undo is not None:
                    undo()
        self._step(1)

    def note(self, what: str, reason: str) -> None:
        """List what is not measured."""
        self.measurement.not_measured.append(NotMeasured(what, reason))

    def finish(self) -> None:
        """Count the work that will not be done any more."""
        self._step(self._left)

    def _step(self, count: int) -> None:
        self._left -= count
        self._progress(count)
