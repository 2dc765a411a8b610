"""Scenarios as the schedule asks for them: answers, stages, offline, camera and the sweep over threads."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.evaluation import EvaluationSet
from benchmarks.measuring import pace
from benchmarks.measuring.protocol import (
    Answered,
    AskAnswers,
    AskCamera,
    AskOffline,
    AskStages,
    Burst,
    CameraTrace,
    OfflineRun,
    StageTimes,
)
from benchmarks.measuring.session import Measurement, Session
from benchmarks.plan import KERAS_PREDICT, SubjectPlan
from benchmarks.records import NotMeasured
from benchmarks.settings import Scenario, Settings
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.platform.board import core_count
from edge_runtime.progress import Progress


class MeasuredSubject:
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

    def must(self, work: Callable[[MeasuredSubject], None]) -> None:
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

    def may(self, what: str, work: Callable[[MeasuredSubject], None], undo: Callable[[], None] | None = None) -> None:
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


class Conditions:
    """The same for every subject.

    Args:
        settings: How they are measured.
        images: What they are measured on.
        folder: Scratch folder; answers are written there.

    Attributes:
        settings: As given.
        images: The ``.npy`` file of the prepared images.
        paths: Text file with the path of each image file, one a line; see `EvaluationSet`.
        count: Number of images.
        folder: As given.
    """

    def __init__(self, settings: Settings, images: EvaluationSet, folder: Path) -> None:
        self.settings, self.folder, self.count = settings, folder.resolve(), len(images.samples)
        self.images, self.paths = str(images.images.resolve()), str(images.paths_file.resolve())
        self._first = images.samples[0].path
        self._random = random.Random(settings.seed)  # noqa: S311 - an order, not a secret

    def open(self, plan: SubjectPlan, threads: int | None = None) -> Session:
        """Start a fresh process; see `Session`. Without ``threads`` it takes those of the settings."""
        return Session(
            plan,
            threads=threads or self.settings.threads,
            image=self._first,
            folder=self.folder,
            timeout_s=self.settings.timeout_s,
        )

    def shuffled(self, entrants: Sequence[MeasuredSubject]) -> list[MeasuredSubject]:
        """Them in an order drawn by chance, another at each call, the same for the same seed."""
        return self._random.sample(list(entrants), len(entrants))

    def shuffled_counts(self, counts: Sequence[int]) -> list[int]:
        """The same for thread counts."""
        return self._random.sample(list(counts), len(counts))


def ask_once(entrants: Sequence[MeasuredSubject], conditions: Conditions) -> None:
    """Ask subjects with an open process for answers, stages and a camera, as far as the settings want them."""
    settings = conditions.settings
    _ask_all_answers([entrant for entrant in entrants if entrant.is_in], conditions)
    if settings.wants(Scenario.STAGES):
        for entrant in conditions.shuffled(entrants):
            entrant.may(Scenario.STAGES.value, partial(_ask_stages, conditions=conditions))
    if settings.wants(Scenario.CAMERA):
        for entrant in conditions.shuffled(entrants):
            entrant.may(Scenario.CAMERA.value, partial(_ask_camera, conditions=conditions))


def ask_offline(entrants: Sequence[MeasuredSubject], conditions: Conditions, session: int) -> None:
    """Let subjects with an open process classify a folder, burst by burst in turn, as often as it is due in a session.

    Args:
        entrants: The subjects.
        conditions: What they are measured on.
        session: Which session, the first being 0.
    """
    request = AskOffline(conditions.paths, core_count(), pace.OFFLINE_S)
    bursts = {
        entrant.plan.name: pace.offline_bursts(entrant.plan, conditions.settings, session) for entrant in entrants
    }
    with ExitStack() as stack:
        sessions: dict[str, Session] = {}

        def session_of(entrant: MeasuredSubject) -> Session:
            if entrant.plan.name != KERAS_PREDICT or not needs_wide_predict(conditions.settings.threads):
                return entrant.session
            # The exports get an interpreter a core; Keras gets as many threads, so that nobody can say it was kept from
            # the cores.
            name = entrant.plan.name
            if name not in sessions:
                sessions[name] = stack.enter_context(conditions.open(entrant.plan, core_count()))
            return sessions[name]

        def work(entrant: MeasuredSubject) -> None:
            entrant.measurement.offline.append(session_of(entrant).ask(request, OfflineRun))

        for burst in range(max(bursts.values(), default=0)):
            for entrant in conditions.shuffled([one for one in entrants if burst < bursts[one.plan.name]]):
                entrant.may(Scenario.OFFLINE.value, work, entrant.measurement.offline.clear)


def sweep_threads(entrant: MeasuredSubject, conditions: Conditions) -> None:
    """Single stream with each thread count, in a fresh process each, burst by burst in turn.

    Raises:
        EngineError: A process failed.
    """
    counts = conditions.settings.sweep_threads
    entrant.measurement.threads.update({count: [] for count in counts})
    with ExitStack() as stack:
        sessions = {count: stack.enter_context(conditions.open(entrant.plan, count)) for count in counts}
        for round_index in range(pace.SWEEP_ROUNDS):
            request = pace.sweep_burst(conditions.images, is_first=round_index == 0)
            for count in conditions.shuffled_counts(counts):
                entrant.measurement.threads[count].append(sessions[count].ask(request, Burst))


def needs_wide_predict(settings_threads: int) -> bool:
    """Whether ``keras-predict`` needs a process of its own for the folder: one that may use all cores."""
    return settings_threads < core_count()


def _ask_all_answers(entrants: Sequence[MeasuredSubject], conditions: Conditions) -> None:
    """Let as many subjects as there are cores answer at one time: nothing of it is timed, and slow ones take long."""
    with ThreadPoolExecutor(core_count()) as pool:
        futures = {entrant.plan.name: pool.submit(_ask_answers, entrant, conditions) for entrant in entrants}
        try:
            wait(futures.values())
        except BaseException:  # Ctrl-C must not wait for the answers
            pool.shutdown(wait=False, cancel_futures=True)
            for entrant in entrants:
                entrant.session.kill()
            raise
    for entrant in entrants:
        entrant.must(lambda one: futures[one.plan.name].result())


def _ask_answers(entrant: MeasuredSubject, conditions: Conditions) -> None:
    file = conditions.folder / f"answers-{entrant.plan.name}.npy"
    answered = entrant.session.ask(AskAnswers(conditions.images, str(file)), Answered)
    probabilities = np.load(file, allow_pickle=False)
    if probabilities.ndim != 2 or len(probabilities) != conditions.count:
        raise EngineError(f"expected an answer for each of {conditions.count} images, got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        wrong = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise EngineError(f"expected probabilities, got no numbers (NaN) for {wrong} of {conditions.count} images")
    entrant.measurement.tensorflow_loaded = answered.tensorflow_loaded
    entrant.measurement.probabilities = probabilities.astype(np.float32, copy=False)


def _ask_stages(entrant: MeasuredSubject, conditions: Conditions) -> None:
    images = pace.stage_images(entrant.plan, conditions.settings)
    entrant.measurement.stages = entrant.session.ask(AskStages(conditions.paths, images), StageTimes)


def _ask_camera(entrant: MeasuredSubject, conditions: Conditions) -> None:
    request = AskCamera(conditions.paths, conditions.settings.camera_fps, pace.CAMERA_S)
    entrant.measurement.camera = entrant.session.ask(request, CameraTrace)
