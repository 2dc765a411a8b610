"""Schedule of a benchmark: sessions, interleaved rounds, repeated cold starts, and the other scenarios.

Each session starts every model in a fresh process. All processes stay open, but only one works: in each round every
model answers one burst, in random order, so a machine that slows down slows all models alike.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.evaluation import EvaluationSet
from benchmarks.measuring import pace, protocol
from benchmarks.measuring.session import Session, Start
from benchmarks.plan import KERAS_PREDICT, SubjectPlan
from benchmarks.records import NotMeasured
from benchmarks.settings import Scenario, Settings
from edge_runtime.errors import EdgeKitError, EngineError
from edge_runtime.platform.board import memory_available_bytes
from edge_runtime.platform.process import core_count
from edge_runtime.progress import Progress

if TYPE_CHECKING:
    from benchmarks.resources.power import Meter

_T = TypeVar("_T")


@dataclass(eq=False)
class Measurement:
    """One subject with its open process and its figures, filled while the schedule runs.

    Attributes:
        plan: Subject that is measured.
        steps_left: Pieces of work that are not over yet.
        progress: Function called with the number of pieces of work that are over.
        error: Reason for the subject's exclusion, or None; with an error the figures below are not valid.
        runtime: Runtime and version.
        delegate: Executor of the operators, or None.
        tensorflow_loaded: True if TensorFlow, Keras or JAX was in the process.
        probabilities: float32 [images, labels], or None.
        starts: Cold starts, in order.
        bursts: Single-stream bursts; index i is round i of the whole benchmark, over all sessions, for every subject.
        stages: Stage times, or None.
        offline: Bursts of the offline scenario.
        camera: Trace of the camera scenario, or None.
        threads: Bursts by thread count.
        memory: Memory after the single-stream bursts of the last session, or None.
        energy_mj: Energy above idle and the number of calls that it was measured over; None without a meter.
        not_measured: Requested figures that could not be measured or do not apply.
    """

    plan: SubjectPlan
    steps_left: int
    progress: Progress
    error: str | None = None
    runtime: str = ""
    delegate: str | None = None
    tensorflow_loaded: bool = False
    probabilities: NDArray[np.float32] | None = None
    starts: list[Start] = field(default_factory=list)
    bursts: list[protocol.Burst] = field(default_factory=list)
    stages: protocol.StageTimes | None = None
    offline: list[protocol.OfflineRun] = field(default_factory=list)
    camera: protocol.CameraTrace | None = None
    threads: dict[int, list[protocol.Burst]] = field(default_factory=dict)
    memory: protocol.Memory | None = None
    energy_mj: tuple[float, int] | None = None
    not_measured: list[NotMeasured] = field(default_factory=list)
    _session: Session | None = None

    @property
    def session(self) -> Session:
        """Open process of the subject; EngineError if there is none."""
        if self._session is None:
            raise EngineError("its process is not open")
        return self._session

    def enter(self, session: Session) -> None:
        """Take an open process and the figures of its start."""
        self._session = session
        self.starts.append(session.start)
        self.runtime, self.delegate = session.opened.runtime, session.opened.delegate

    def leave(self) -> None:
        """End the open process, if any."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def must(self, work: Callable[[Measurement], None]) -> None:
        """Do a required piece of work; its failure excludes the subject from all that follows."""
        if self.error is not None:
            return
        try:
            work(self)
        except EdgeKitError as error:
            self.error = str(error)
            self.leave()
            self.finish()
        else:
            self._step(1)

    def may(self, what: str, work: Callable[[Measurement], None], undo: Callable[[], None] | None = None) -> None:
        """Do an optional piece of work; its failure is listed, undone by ``undo``, and ``what`` not tried again."""
        if self.error is not None:
            return
        if not any(item.what == what for item in self.not_measured):
            try:
                work(self)
            except EdgeKitError as error:
                self.note(what, str(error))
                if undo is not None:
                    undo()
        self._step(1)

    def note(self, what: str, reason: str) -> None:
        """List a figure that is not measured."""
        self.not_measured.append(NotMeasured(what, reason))

    def finish(self) -> None:
        """Count the work that will not be done any more."""
        self._step(self.steps_left)

    def _step(self, count: int) -> None:
        self.steps_left -= count
        self.progress(count)


class Conditions:
    """Conditions that are the same for every subject; see `EvaluationSet` for the two files.

    Attributes:
        settings: Settings of the benchmark.
        images: ``.npy`` file of the prepared images.
        paths: Text file with one image path per line.
        count: Number of images.
        folder: Scratch folder, absolute, where answers are written.
    """

    def __init__(self, settings: Settings, images: EvaluationSet, folder: Path) -> None:
        self.settings, self.folder, self.count = settings, folder.resolve(), len(images.samples)
        self.images, self.paths = str(images.images.resolve()), str(images.paths_file.resolve())
        self._first = images.samples[0].path
        self._random = random.Random(settings.seed)  # noqa: S311 - an order, not a secret

    def open(self, plan: SubjectPlan, threads: int | None = None) -> Session:
        """Start a fresh process; ``threads`` defaults to those of the settings."""
        return Session(
            plan,
            threads=threads or self.settings.threads,
            image=self._first,
            folder=self.folder,
            timeout_s=self.settings.timeout_s,
        )

    def shuffled(self, items: Sequence[_T]) -> list[_T]:
        """Return the items in seeded random order, reshuffled each call."""
        return self._random.sample(list(items), len(items))


def steps(plans: Sequence[SubjectPlan], settings: Settings) -> int:
    """Count the pieces of work that `measure_all` reports to ``progress``."""
    return sum(pace.steps_of(plan, settings) for plan in plans)


def measure_all(
    plans: Sequence[SubjectPlan],
    settings: Settings,
    images: EvaluationSet,
    folder: Path,
    progress: Progress,
    meter: Meter | None = None,
) -> list[Measurement]:
    """Measure all subjects in their order; a failure of one is recorded, never raised, and does not stop the others.

    Args:
        plans: Subjects to measure.
        settings: Settings of the benchmark.
        images: Images of the benchmark.
        folder: Scratch folder of the children.
        progress: Function called with the number of pieces of work that are over; see `steps`.
        meter: Power meter for the energy of the single-stream bursts, or None.
    """
    conditions = Conditions(settings, images, folder)
    subjects = [Measurement(plan, pace.steps_of(plan, settings), progress) for plan in plans]
    try:
        for subject in subjects:
            subject.not_measured += pace.left_out(subject.plan, settings)
        _start_more(subjects, conditions)
        groups = _groups(subjects, settings)
        for session in range(settings.sessions):
            for group in groups:
                _run_session(group, conditions, meter, session)
        for subject in conditions.shuffled([one for one in subjects if pace.is_swept(one.plan, settings)]):
            work = partial(_sweep_threads, conditions=conditions)
            subject.may(Scenario.THREADS.value, work, subject.threads.clear)
    finally:
        for subject in subjects:
            subject.leave()
    for subject in subjects:
        _note_few_queries(subject, settings)
        subject.finish()
    return subjects


def _start_more(subjects: Sequence[Measurement], conditions: Conditions) -> None:
    """Time the cold starts besides those of the sessions: short-lived processes, one at a time, in random order."""

    def start(subject: Measurement) -> None:
        with conditions.open(subject.plan) as session:
            subject.starts.append(session.start)

    due = [subject for subject in subjects for _ in range(pace.extra_starts(subject.plan, conditions.settings))]
    for subject in conditions.shuffled(due):
        subject.must(start)


def _groups(subjects: Sequence[Measurement], settings: Settings) -> list[list[Measurement]]:
    """Group the subjects whose processes fit into memory together; several groups are noted."""
    available = memory_available_bytes()
    has_second = settings.wants(Scenario.OFFLINE) and _needs_wide_predict(settings.threads)
    divided = pace.groups([subject.plan for subject in subjects], available, has_second_predict=has_second)
    if len(divided) > 1:
        for subject in subjects:
            subject.note(
                "all models in turn",
                f"{(available or 0) / 1e9:.1f} GB of free memory do not hold all models at once, so they were measured "
                f"in {len(divided)} groups one after the other; ratios between groups compare different minutes",
            )
    by_name = {subject.plan.name: subject for subject in subjects}
    return [[by_name[plan.name] for plan in plans] for plans in divided]


def _run_session(group: Sequence[Measurement], conditions: Conditions, meter: Meter | None, session: int) -> None:
    """Start each subject, interleave the bursts, then do the other scenarios.

    Memory is read in the last session, a folder runs in each, all else in the first. Memory comes right after the
    bursts, because answers, folders and cameras would be counted as the model's.
    """
    settings = conditions.settings

    def read_memory(subject: Measurement) -> None:
        subject.memory = subject.session.ask(protocol.AskMemory(), protocol.Memory)

    try:
        for subject in conditions.shuffled(group):
            subject.must(lambda one: one.enter(conditions.open(one.plan)))
        for round_index in range(settings.rounds):
            for subject in conditions.shuffled(group):
                request = pace.burst(subject.plan, settings, conditions.images, is_first=round_index == 0)
                subject.must(partial(_ask_burst, request=request, meter=meter))
        if session == settings.sessions - 1:
            for subject in group:
                subject.must(read_memory)
        if session == 0:
            _ask_once(group, conditions)
        _ask_offline(group, conditions, session)
    finally:
        for subject in group:
            subject.leave()


def _ask_burst(subject: Measurement, request: protocol.AskBurst, meter: Meter | None) -> None:
    if meter is None:
        subject.bursts.append(subject.session.ask(request, protocol.Burst))
        return
    # The energy of the warm-up is not counted with that of the timed calls.
    subject.session.ask(protocol.AskBurst(request.images, request.warm_up_s, 0.0, 0), protocol.Burst)
    with meter.span() as span:
        burst = subject.session.ask(
            protocol.AskBurst(request.images, 0.0, request.duration_s, request.queries), protocol.Burst
        )
    subject.bursts.append(burst)
    if span.energy_mj is not None:
        energy_mj, calls = subject.energy_mj or (0.0, 0)
        subject.energy_mj = energy_mj + span.energy_mj, calls + len(burst.latencies_ns)


def _note_few_queries(subject: Measurement, settings: Settings) -> None:
    calls = sum(len(burst.latencies_ns) for burst in subject.bursts)
    if subject.error is None and subject.plan.name == KERAS_PREDICT and calls < settings.min_queries:
        subject.note(
            f"{settings.min_queries} single-stream calls",
            f"a call of model.predict takes so long that it was timed for {settings.min_duration_s:g} s, "
            f"which is {calls} calls",
        )


def _ask_once(subjects: Sequence[Measurement], conditions: Conditions) -> None:
    """Measure answers, stages and camera of subjects with an open process, as far as the settings request them."""
    _ask_all_answers([subject for subject in subjects if subject.error is None], conditions)
    for scenario, work in ((Scenario.STAGES, _ask_stages), (Scenario.CAMERA, _ask_camera)):
        if conditions.settings.wants(scenario):
            for subject in conditions.shuffled(subjects):
                subject.may(scenario.value, partial(work, conditions=conditions))


def _ask_offline(subjects: Sequence[Measurement], conditions: Conditions, session: int) -> None:
    """Run the folder bursts of one session, burst by burst in turn; the first session is 0."""
    request = protocol.AskOffline(conditions.paths, core_count(), pace.OFFLINE_S)
    bursts = {
        subject.plan.name: pace.offline_bursts(subject.plan, conditions.settings, session) for subject in subjects
    }
    with ExitStack() as stack:
        wide: list[Session] = []

        def session_of(subject: Measurement) -> Session:
            if subject.plan.name != KERAS_PREDICT or not _needs_wide_predict(conditions.settings.threads):
                return subject.session
            # The exports get one interpreter per core; Keras gets as many threads, so that it may use all cores too.
            if not wide:
                wide.append(stack.enter_context(conditions.open(subject.plan, core_count())))
            return wide[0]

        def work(subject: Measurement) -> None:
            subject.offline.append(session_of(subject).ask(request, protocol.OfflineRun))

        for burst in range(max(bursts.values(), default=0)):
            for subject in conditions.shuffled([one for one in subjects if burst < bursts[one.plan.name]]):
                subject.may(Scenario.OFFLINE.value, work, subject.offline.clear)


def _sweep_threads(subject: Measurement, conditions: Conditions) -> None:
    """Time single-stream with each thread count, in one fresh process each, burst by burst in turn."""
    counts = conditions.settings.sweep_threads
    subject.threads.update({count: [] for count in counts})
    with ExitStack() as stack:
        sessions = {count: stack.enter_context(conditions.open(subject.plan, count)) for count in counts}
        for round_index in range(pace.SWEEP_ROUNDS):
            request = pace.sweep_burst(conditions.images, is_first=round_index == 0)
            for count in conditions.shuffled(counts):
                subject.threads[count].append(sessions[count].ask(request, protocol.Burst))


def _needs_wide_predict(threads: int) -> bool:
    """Tell whether ``keras-predict`` needs a separate process for the folder, one that may use all cores."""
    return threads < core_count()


def _ask_all_answers(subjects: Sequence[Measurement], conditions: Conditions) -> None:
    """Ask as many subjects at a time as there are cores: answers are not timed, and slow subjects take long."""
    with ThreadPoolExecutor(core_count()) as pool:
        futures = {subject.plan.name: pool.submit(_ask_answers, subject, conditions) for subject in subjects}
        try:
            wait(futures.values())
        except BaseException:  # Ctrl-C must not wait for the answers
            pool.shutdown(wait=False, cancel_futures=True)
            for subject in subjects:
                subject.session.kill()
            raise
    for subject in subjects:
        subject.must(lambda one: futures[one.plan.name].result())


def _ask_answers(subject: Measurement, conditions: Conditions) -> None:
    file = conditions.folder / f"answers-{subject.plan.name}.npy"
    answered = subject.session.ask(protocol.AskAnswers(conditions.images, str(file)), protocol.Answered)
    probabilities = np.load(file, allow_pickle=False)
    if probabilities.ndim != 2 or len(probabilities) != conditions.count:
        raise EngineError(f"expected an answer for each of {conditions.count} images, got {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        wrong = int((~np.isfinite(probabilities).all(axis=1)).sum())
        raise EngineError(f"expected probabilities, got no numbers (NaN) for {wrong} of {conditions.count} images")
    subject.tensorflow_loaded = answered.tensorflow_loaded
    subject.probabilities = probabilities.astype(np.float32, copy=False)


def _ask_stages(subject: Measurement, conditions: Conditions) -> None:
    images = pace.stage_images(subject.plan, conditions.settings)
    subject.stages = subject.session.ask(protocol.AskStages(conditions.paths, images), protocol.StageTimes)


def _ask_camera(subject: Measurement, conditions: Conditions) -> None:
    request = protocol.AskCamera(conditions.paths, conditions.settings.camera_fps, pace.CAMERA_S)
    subject.camera = subject.session.ask(request, protocol.CameraTrace)
