"""Checks of a model or bundle: integrity, opening, golden inputs and speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.contract import Artifact, Manifest, Variant
from edge_runtime.doctor.findings import Finding, Level, info, ok, problem, warning
from edge_runtime.doctor.probe import Answer, Probe, probe
from edge_runtime.errors import EdgeKitError, EngineError, ModelError, OutputError
from edge_runtime.model.bundle import candidates, check_artifact, find_model, read_bundle_manifest, remember_fastest
from edge_runtime.model.sandbox import SandboxOutcome, SandboxResult, try_models
from edge_runtime.platform import board

# Allowed difference from Keras beyond that at conversion. Float kernels differ between machines by rounding, LiteRT's
# integer kernels not at all, tflite-runtime's by up to 28/255 from LiteRT and between CPUs.
_FLOAT_MARGIN = 1e-3
_SAME_RUNTIME_MARGIN = 2 / 255
_OTHER_RUNTIME_MARGIN = 28 / 255 + 1 / 255
_FLOATS = (Variant.FLOAT32, Variant.FLOAT16, Variant.ONNX_FLOAT32)
_COPY_AGAIN = "copy the whole bundle again"
_FILE = "model"


@dataclass
class Measured:
    """Measurements of a bundle.

    Attributes:
        latency_ms: Median milliseconds of one inference in one thread, by variant.
        default: Variant that is the default from now on.
    """

    latency_ms: dict[Variant, float] = field(default_factory=dict)
    default: Variant | None = None


@dataclass(frozen=True)
class Tools:
    """Functions that the checks call; tests replace them.

    Attributes:
        probe: Function that runs a probe in a child process.
        try_models: Function that runs models in the sandbox.
        throttling: Function that lists reasons why the board runs slower than it could.
    """

    probe: Probe = probe
    try_models: Callable[[Sequence[Path]], list[SandboxResult]] = try_models
    throttling: Callable[[], tuple[str, ...]] = board.throttled


def examine_model(path: Path, outcome: Measured, tools: Tools | None = None) -> Iterator[Finding]:
    """Check a bundle, or one model file.

    Args:
        path: Path of the bundle or file.
        outcome: Measurements to fill in.
        tools: Functions to call; None takes the real ones.

    Raises:
        ModelError: There is no such file or folder.
    """
    tools = tools or Tools()
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder; expected a bundle, a .tflite or an .onnx file")
    if not path.is_dir():
        yield _examine_file(path, tools.probe)
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
    yield from _examine_artifacts(path, intact, outcome, tools)
    yield from _choose(path, manifest, outcome, tools.throttling())


def _examine_file(path: Path, run_probe: Probe) -> Finding:
    try:
        model = find_model(path)
    except EdgeKitError as error:
        return problem(_FILE, *_split(str(error), path, "copy it again, or name a .tflite or .onnx file"))
    answer = run_probe("model", str(path.absolute()))
    if answer.failure is not None:
        return problem(_FILE, *_split(answer.failure, path, "edge-convert lint says which runtime it needs"))
    kind = "carries its manifest" if model.manifest else "carries no manifest"
    return ok(_FILE, f"{path.name}: {_timed(answer)}; {kind}")


def _examine_artifacts(path: Path, artifacts: list[Artifact], outcome: Measured, tools: Tools) -> Iterator[Finding]:
    answers = _probe_all(path, artifacts, tools)
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
    # Measure again in reverse order, because the first to run may have had a cooler or a busier board.
    if len(outcome.latency_ms) > 1:
        for artifact in reversed(artifacts):
            if artifact.variant in outcome.latency_ms:
                again = _probe(path, artifact, tools.probe).facts.get("latency_ms", float("inf"))
                outcome.latency_ms[artifact.variant] = min(outcome.latency_ms[artifact.variant], float(again))


def _probe_all(path: Path, artifacts: list[Artifact], tools: Tools) -> dict[Variant, Answer]:
    """Run all files in the sandbox, and probe those that pass."""
    files = [path.absolute() / artifact.file for artifact in artifacts]
    try:
        results = tools.try_models(files)
    except EngineError as error:
        return {artifact.variant: Answer(failure=str(error), error_type="EngineError") for artifact in artifacts}
    answers = {}
    for artifact, result in zip(artifacts, results, strict=True):
        if result.ok:
            answers[artifact.variant] = _probe(path, artifact, tools.probe)
        else:
            reason = result.reason or result.outcome.value
            if result.outcome is SandboxOutcome.CRASHED:
                reason = f"crashes the runtime ({reason})"
            answers[artifact.variant] = Answer(failure=reason, error_type=result.error or result.outcome.value)
    return answers


def _probe(path: Path, artifact: Artifact, run_probe: Probe) -> Answer:
    return run_probe("model", str(path.absolute()), artifact.variant.value)


def judge(artifact: Artifact, answer: Answer) -> Finding:
    """Compare a variant's output for the golden inputs with that at its conversion.

    Args:
        artifact: Entry of the variant in the manifest.
        answer: Answer of `edge_runtime.doctor.replay.replay`.
    """
    topic, facts = artifact.variant.value, answer.facts
    if "from_keras" not in facts:
        return info(topic, f"{_timed(answer)}; the bundle has no golden inputs to compare with")
    images, changed, away = int(facts["images"]), int(facts["changed"]), float(facts["from_keras"])
    if facts.get("from_recorded") == 0.0:
        return ok(topic, f"{_timed(answer)}; {images} golden images bit-identical to its conversion")
    compared = f"{images} golden images within {away:.2g} of Keras"
    if artifact.check is None:
        return info(topic, f"{_timed(answer)}; {compared}, but the manifest records no difference to compare with")
    allowed = artifact.check.golden_max_difference + _margin(artifact, str(facts["engine"]))
    if away <= allowed and not changed:
        return ok(topic, f"{_timed(answer)}; {compared}, as in its conversion")
    found = f"{_timed(answer)}; {compared}, expected {allowed:.2g}"
    remedy = f"install the runtime of its conversion ({artifact.check.engine}), or take another variant"
    if changed and away > allowed:
        return problem(topic, f"{found}; {changed} answers differ from those of its conversion", remedy)
    return warning(topic, found if not changed else f"{found}; {changed} close answers changed", remedy)


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
    # A variant for a missing device or runtime is not faulty.
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
            "fastest variant not measured, since the board is throttled now",
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
            yield info("default", f"{artifact.variant.value}, expected to be the fastest on this CPU")
        return
    if len(usable) == 1:
        yield ok("default", f"{outcome.default.value}, the only variant that passed its check and runs here")
        return
    times = ", ".join(f"{variant.value} {outcome.latency_ms[variant]:.2f}" for variant in usable)
    yield ok("default", f"{outcome.default.value} from now on, the fastest on this machine (ms: {times})")


def _timed(answer: Answer) -> str:
    return f"{answer.facts['engine']}, {float(answer.facts['latency_ms']):.2f} ms per image"


def _split(sentence: str, path: Path, otherwise: str) -> tuple[str, str]:
    """Split an error message into finding and remedy at its last semicolon; without one, take another remedy."""
    sentence = sentence.removeprefix(f"{path}: ").removeprefix(f"{path.absolute()}: ")
    found, semicolon, remedy = sentence.rpartition("; ")
    return (found, remedy) if semicolon else (sentence, otherwise)
