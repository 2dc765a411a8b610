"""What a benchmark run shall do: the command line as data, and the subjects that follow from a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import Manifest, Variant
from edge_runtime.datasets.samples import Split
from edge_runtime.errors import CompatibilityError, ModelError, UsageError
from edge_runtime.modelfile import read_bundle_manifest

ARTIFACT_MODULE = "benchmarks.measuring.artifact_child"
KERAS_MODULE = "benchmarks.measuring.keras_child"
KERAS_MODEL_FILE = "model.keras"
KERAS_PREDICT = "keras-predict"
KERAS_FUNCTION = "keras-function"

ARTIFACT_STARTS = 3
# TensorFlow takes seconds to import, and its start varies little against its length.
KERAS_STARTS = 1
_PREDICT_SHARE = 5
_PREDICT_MINIMUM = 20


@dataclass(frozen=True)
class BenchConfig:
    """The command line of ``edge-bench run``.

    Attributes:
        bundle: The bundle directory.
        data: SRC of labelled pictures, or None for the split of ``keras``.
        split: Part of the data; None takes test, else validation.
        keras: Run directory whose Keras model is compared, or None.
        out: Report directory.
        variants: Which artifacts; empty takes all.
        limit: At most so many pictures, or None.
        invocations: Timed calls of each artifact.
        threads: Threads inside one inference.
        timeout_s: Seconds after which a measuring process is stopped.
        overwrite: Whether an existing report is replaced.
        command: The command line as typed, for the report.
    """

    bundle: Path
    data: str | None
    split: Split | None
    keras: Path | None
    out: Path
    variants: tuple[Variant, ...]
    limit: int | None
    invocations: int
    threads: int
    timeout_s: float
    overwrite: bool
    command: str


@dataclass(frozen=True)
class SubjectPlan:
    """One thing to measure.

    Attributes:
        name: ``keras-predict``, ``keras-function`` or the artifact's variant.
        module: Child program.
        model: Run directory or bundle, absolute, since the child runs elsewhere.
        variant: What the child is told.
        file: The model file.
        bytes: Its size; 0 where it is missing.
        starts: Cold starts, at least 1; the last one goes on to be measured.
        invocations: Timed calls.
    """

    name: str
    module: str
    model: Path
    variant: str
    file: Path
    bytes: int
    starts: int
    invocations: int


def plan_subjects(config: BenchConfig, manifest: Manifest) -> tuple[SubjectPlan, ...]:
    """Keras first, where there is a run, then the bundle's artifacts in their order.

    Raises:
        UsageError: A variant that the bundle does not hold.
        ModelError: The bundle holds no artifacts.
    """
    held = {artifact.variant: artifact for artifact in manifest.artifacts}
    if not held:
        raise ModelError(f"{config.bundle}: holds no exported model; make a bundle with edge-convert run")
    missing = [variant.value for variant in config.variants if variant not in held]
    if missing:
        known = ", ".join(variant.value for variant in held)
        raise UsageError(f"{config.bundle}: has no variant {', '.join(missing)}; it holds {known}")
    wanted = [artifact for variant, artifact in held.items() if variant in (config.variants or tuple(held))]
    subjects = _keras_subjects(config)
    for artifact in wanted:
        file = config.bundle / artifact.file
        subjects.append(
            SubjectPlan(
                name=artifact.variant.value,
                module=ARTIFACT_MODULE,
                model=config.bundle.resolve(),
                variant=artifact.variant.value,
                file=file,
                bytes=_size(file),
                starts=ARTIFACT_STARTS,
                invocations=config.invocations,
            )
        )
    return tuple(subjects)


def remarks_on_checks(manifest: Manifest, plans: Sequence[SubjectPlan]) -> tuple[str, ...]:
    """A sentence for each planned artifact that lost more than allowed when it was converted."""
    planned = {plan.name for plan in plans}
    return tuple(
        f"{artifact.variant.value} did not pass its check at conversion (accuracy {artifact.check.accuracy:.1%} "
        f"against {artifact.check.keras_accuracy:.1%} of Keras on {artifact.check.images} pictures)."
        for artifact in manifest.artifacts
        if artifact.variant.value in planned and artifact.check is not None and not artifact.check.passed
    )


def check_run(run: Path, bundle_manifest: Manifest) -> tuple[str, ...]:
    """Check that a run's Keras model can be compared with a bundle.

    Returns:
        A sentence for the report where the bundle may come from another run, else nothing.

    Raises:
        ModelError: Not a run directory.
        CompatibilityError: Other labels, input or output than the bundle.
    """
    if not (run / KERAS_MODEL_FILE).is_file():
        raise ModelError(f"{run}: holds no {KERAS_MODEL_FILE}; expected a run directory that edge-train run wrote")
    manifest = read_bundle_manifest(run)
    for name, ours, theirs in (
        ("labels", bundle_manifest.labels, manifest.labels),
        ("input", bundle_manifest.input, manifest.input),
        ("head", bundle_manifest.output.head, manifest.output.head),
    ):
        if ours != theirs:
            raise CompatibilityError(
                f"{run}: its {name} {theirs} is not the bundle's {ours}; give the run that the bundle was made from"
            )
    if manifest.training != bundle_manifest.training:
        return (
            "The training record of the run differs from the bundle's: the bundle may have been made from another run, "
            "so the agreement may compare two different models.",
        )
    return ()


def _keras_subjects(config: BenchConfig) -> list[SubjectPlan]:
    if config.keras is None:
        return []
    file = config.keras / KERAS_MODEL_FILE
    # Keras takes a tenth of a second for one predict call, so it is called less often.
    predict_invocations = min(config.invocations, max(_PREDICT_MINIMUM, config.invocations // _PREDICT_SHARE))
    return [
        SubjectPlan(name, KERAS_MODULE, config.keras.resolve(), name, file, _size(file), KERAS_STARTS, invocations)
        for name, invocations in ((KERAS_PREDICT, predict_invocations), (KERAS_FUNCTION, config.invocations))
    ]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
