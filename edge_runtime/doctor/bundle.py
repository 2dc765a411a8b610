"""Checks of a model or bundle: integrity, opening, golden inputs and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.contract import Artifact, Manifest, Variant
from edge_runtime.doctor.findings import Finding, Level, info, ok, problem, warning
from edge_runtime.doctor.probe import Answer, Ask, ask
from edge_runtime.errors import EdgeKitError, EngineError, ModelError, OutputError
from edge_runtime.model.bundle import check_artifact, find_model, read_bundle_manifest
from edge_runtime.model.fastest import candidates, remember_fastest
from edge_runtime.model.sandbox import SandboxOutcome as TrialOutcome
from edge_runtime.model.sandbox import SandboxResult, try_models
from edge_runtime.platform import board

# How much farther from Keras than in its conversion an answer may be. Float kernels differ from machine to machine by
# rounding; LiteRT's integer ones not at all; tflite-runtime's by up to 28/255, from LiteRT and between processors.
_FLOAT_MARGIN = 1e-3
_SAME_RUNTIME_MARGIN = 2 / 255
_OTHER_RUNTIME_MARGIN = 28 / 255 + 1 / 255
_FLOATS = (Variant.FLOAT32, Variant.FLOAT16, Variant.ONNX_FLOAT32)
_COPY_AGAIN = "copy the whole bundle again"
_FILE = "model"


@dataclass
class Measured:
    """What was measured.

    Attributes:
        latency_ms: Median milliseconds of one inference in one thread, by variant.
        default: The variant that is taken by itself from now on.
    """

    latency_ms: dict[Variant, float] = field(default_factory=dict)
    default: Variant | None = None


@dataclass(frozen=True)
class Means:
    """How the doctor looks; tests give others.

    Attributes:
        ask: Asks a child process; see `edge_runtime.doctor.child`.
        try_models: See `edge_runtime.model.sandbox`.
        throttling: What keeps the board from its full speed at the moment.
    """

    ask: Ask = ask
    try_models: Callable[[Sequence[Path]], list[SandboxResult]] = try_models
    throttling: Callable[[], tuple[str, ...]] = board.throttled


def examine_model(path: Path, outcome: Measured, means: Means | None = None) -> Iterator[Finding]:
    """Look at a bundle, or at one model file.

    Args:
        path: What the user named.
        outcome: Where measurements are put.
        means: How to look; None looks for real.

    Raises:
        ModelError: There is nothing at ``path``.
    """
    means = means or Means()
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder; expected a bundle, a .tflite or an .onnx file")
    if not path.is_dir():
        yield _examine_file(path, means.ask)
        return
    try:
        manifest = read_bundle_manifest(path)
    except EdgeKitError as error:
        yield problem("bundle", *_split(str(error), path, _COPY_AGAIN))
        return
    yield ok("bundle", f"{manifest.model_name}, {len(manifest.labels)} labels, {len(manifest.artifacts)} model files")
    if not manifest.artifacts:
        yield problem("bundle", "holds no exported model", f"edge-convert run {path}")
        return
    intact = []
    for artifact in manifest.artifacts:
        try:
            check_artifact(path, artifact)
            intact.append(artifact)
        except (EdgeKitError, OSError) as error:
            yield problem(artifact.variant.value, *_split(str(error), path / artifact.file, _COPY_AGAIN))
    yield from _examine_artifacts(path, intact, outcome, means)
    yield from _choose(path, manifest, outcome, means.throttling())


def _examine_file(path: Path, ask_child: Ask) -> Finding:
    try:
        model = find_model(path)
    except EdgeKitError as error:
        return problem(_FILE, *_split(str(error), path, "copy it again, or name a .tflite or .onnx file"))
    answer = ask_child("model", str(path.absolute()))
    if answer.failure is not None:
        return problem(_FILE, *_split(answer.failure, path, "edge-convert lint says which runtime it needs"))
    kind = "carries its manifest" if model.manifest else "carries no manifest"
    return ok(_FILE, f"{path.name}: {_timed(answer)}; {kind}")


def _examine_artifacts(path: Path, artifacts: list[Artifact], outcome: Measured, means: Means) -> Iterator[Finding]:
    answers = _ask_all(path, artifacts, means)
    some_runs = any(answer.failure is None for answer in answers.values())
    for artifact in artifacts:
        answer = answers[artifact.variant]
        if answer.failure is None:
            finding = judge(artifact, answer)
        else:
            finding = _failed(artifact, answer, path / artifact.file, some_runs=some_runs)
        yield finding
        if answer.failure is None and finding.level is not Level.PROBLEM:
            outcome.latency_ms[artifact.variant] = float(answer.facts["latency_ms"])
    # Once more in the other order, because the first to run may have had the cooler board, or a busier one.
    if len(outcome.latency_ms) > 1:
        for artifact in reversed(artifacts):
            if artifact.variant in outcome.latency_ms:
                again = _ask(path, artifact, means.ask).facts.get("latency_ms", float("inf"))
                outcome.latency_ms[artifact.variant] = min(outcome.latency_ms[artifact.variant], float(again))


def _ask_all(path: Path, artifacts: list[Artifact], means: Means) -> dict[Variant, Answer]:
    """Try all files with images of nothing, and ask more about those that bear it."""
    files = [path.absolute() / artifact.file for artifact in artifacts]
    try:
        trials = means.try_models(files)
    except EngineError as error:
        return {artifact.variant: Answer(failure=str(error), error_type="EngineError") for artifact in artifacts}
    answers = {}
    for artifact, trial in zip(artifacts, trials, strict=True):
        if trial.ok:
            answers[artifact.variant] = _ask(path, artifact, means.ask)
        else:
            reason = trial.reason or trial.outcome.value
            if trial.outcome is TrialOutcome.CRASHED:
                reason = f"crashes the runtime ({reason})"
            answers[artifact.variant] = Answer(failure=reason, error_type=trial.error or trial.outcome.value)
    return answers


def _ask(path: Path, artifact: Artifact, ask_child: Ask) -> Answer:
    return ask_child("model", str(path.absolute()), artifact.variant.value)


def judge(artifact: Artifact, answer: Answer) -> Finding:
    """Compare what a variant gave for the golden inputs with what it gave when it was made.

    Args:
        artifact: Its entry in the manifest.
        answer: What `edge_runtime.doctor.replay` found.
    """
    topic, facts = artifact.variant.value, answer.facts
    if "from_keras" not in facts:
        return info(topic, f"{_timed(answer)}; the bundle has no golden inputs to compare with")
    images, changed, away = int(facts["images"]), int(facts["changed"]), float(facts["from_keras"])
    if facts.get("from_recorded") == 0.0:
        return ok(topic, f"{_timed(answer)}; {images} golden images as in its conversion, bit for bit")
    compared = f"{images} golden images within {away:.2g} of Keras"
    if artifact.check is None:
        return info(topic, f"{_timed(answer)}; {compared}, and nothing is recorded to compare that with")
    allowed = artifact.check.golden_max_difference + _margin(artifact, str(facts["engine"]))
    if away <= allowed and not changed:
        return ok(topic, f"{_timed(answer)}; {compared}, as in its conversion")
    found = f"{_timed(answer)}; {compared}, expected {allowed:.2g}"
    remedy = f"install the runtime of its conversion ({artifact.check.engine}), or take another variant"
    if changed and away > allowed:
        return problem(topic, f"{found}; {changed} answers differ from those of its conversion", remedy)
    return warning(topic, found if not changed else f"{found}; {changed} close answers turned out otherwise", remedy)


def _margin(artifact: Artifact, engine: str) -> float:
    if artifact.variant in _FLOATS:
        return _FLOAT_MARGIN
    made_by = artifact.check.engine if artifact.check else ""
    is_same = engine.partition(" ")[0] == made_by.partition(" ")[0] != "tflite-runtime"
    return _SAME_RUNTIME_MARGIN if is_same else _OTHER_RUNTIME_MARGIN


def _failed(artifact: Artifact, answer: Answer, path: Path, *, some_runs: bool) -> Finding:
    topic = artifact.variant.value
    otherwise = "take another variant, or convert for the runtime that is installed: edge-convert run --runtime"
    reason, remedy = _split(answer.failure or "", path, otherwise)
    # A variant for a device or runtime that is not here is none the worse for it.
    is_foreign = artifact.variant is Variant.EDGETPU or artifact.variant.suffix == ".onnx"
    if is_foreign and some_runs and answer.error_type == "EngineError":
        return info(topic, reason, remedy)
    report = warning if some_runs else problem
    return report(topic, f"cannot run here: {reason} (it needs {artifact.minimum_runtime} or newer)", remedy)


def _choose(path: Path, manifest: Manifest, outcome: Measured, throttling: tuple[str, ...]) -> Iterator[Finding]:
    usable = [variant for variant in candidates(manifest) if variant in outcome.latency_ms]
    if any(reason.endswith(" now") for reason in throttling):
        yield warning(
            "default",
            "not measured which variant is fastest, since the board is slowed down at the moment",
            "see throttling above, then run edge-run doctor again",
        )
    elif usable:
        try:
            outcome.default = remember_fastest(manifest, outcome.latency_ms)
        except OutputError as error:
            yield warning(
                "default", f"cannot be remembered: {error}", "set EDGEKIT_CACHE to a folder that can be written"
            )
    if outcome.default is None:
        try:
            artifact = find_model(path).artifact
        except EdgeKitError as error:
            yield problem("default", *_split(str(error), path, "convert the model again"))
            return
        if artifact:
            yield info("default", f"{artifact.variant.value}, presumed the fastest on such a processor")
        return
    if len(usable) == 1:
        yield ok("default", f"{outcome.default.value}, the only variant that passed its check and runs here")
        return
    times = ", ".join(f"{variant.value} {outcome.latency_ms[variant]:.2f}" for variant in usable)
    yield ok("default", f"{outcome.default.value} from now on, measured fastest here (ms: {times})")


def _timed(answer: Answer) -> str:
    return f"{answer.facts['engine']}, {float(answer.facts['latency_ms']):.2f} ms an image"


def _split(sentence: str, path: Path, otherwise: str) -> tuple[str, str]:
    """What was found, and the remedy that our sentences give after their last semicolon; else another remedy."""
    sentence = sentence.removeprefix(f"{path}: ").removeprefix(f"{path.absolute()}: ")
    found, semicolon, remedy = sentence.rpartition("; ")
    return (found, remedy) if semicolon else (sentence, otherwise)
