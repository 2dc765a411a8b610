"""Plan of a benchmark: configuration, the models to measure, and checks before the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.settings import Settings
from edge_runtime.contract import Manifest
from edge_runtime.errors import CompatibilityError, ModelError, UsageError
from edge_runtime.model.bundle import file_sha256, read_bundle_manifest

ARTIFACT_MODULE = "benchmarks.measuring.artifact_child"
KERAS_MODULE = "benchmarks.measuring.keras_child"
KERAS_MODEL_FILE = "model.keras"
KERAS_PREDICT = "keras-predict"
KERAS_FUNCTION = "keras-function"
KERAS_XLA = "keras-xla"
KERAS_SUBJECTS = (KERAS_PREDICT, KERAS_FUNCTION, KERAS_XLA)


@dataclass(frozen=True)
class BenchConfig:
    """Command line of ``edge-bench run``.

    Attributes:
        bundle: Path of the bundle.
        data: SRC of labelled images, or None for the split of ``keras``.
        keras: Run directory with the Keras model to compare with, or None.
        out: Path of the report directory.
        overwrite: True to replace an existing report.
        command: Command line as typed, for the report.
        settings: Settings of the benchmark.
    """

    bundle: Path
    data: str | None
    keras: Path | None
    out: Path
    overwrite: bool
    command: str
    settings: Settings


@dataclass(frozen=True)
class SubjectPlan:
    """One subject to measure.

    Attributes:
        name: ``keras-predict``, ``keras-function``, ``keras-xla`` or the artifact's variant.
        module: Dotted name of the child program.
        model: Run directory or bundle, absolute, since the child has another working directory.
        file: Path of the model file.
        bytes: Size of the file; 0 if it is missing.
        sha256: Hash of the file; empty if it is missing.
    """

    name: str
    module: str
    model: Path
    file: Path
    bytes: int
    sha256: str

    @property
    def is_keras(self) -> bool:
        """True for a Keras model, False for an artifact."""
        return self.module == KERAS_MODULE


def plan_subjects(config: BenchConfig, manifest: Manifest) -> tuple[SubjectPlan, ...]:
    """Plan the subjects: Keras first, if there is a run, then the bundle's artifacts in their order.

    Raises:
        UsageError: A requested variant is not in the bundle.
        ModelError: The bundle holds no artifacts.
    """
    wanted, held = config.settings.variants, [artifact.variant.value for artifact in manifest.artifacts]
    if not held:
        raise ModelError(f"{config.bundle}: holds no exported model; make a bundle with edge-convert run")
    missing = [variant for variant in wanted if variant not in held]
    if missing:
        raise UsageError(f"{config.bundle}: has no variant {', '.join(missing)}; it holds {', '.join(held)}")
    keras: list[SubjectPlan] = []
    if config.keras is not None:
        # Each takes seconds to start. A quick run keeps the baseline, the fastest of them on most processors.
        names = (KERAS_FUNCTION,) if config.settings.quick else KERAS_SUBJECTS
        keras = [_subject(name, KERAS_MODULE, config.keras, config.keras / KERAS_MODEL_FILE) for name in names]
    artifacts = [
        _subject(artifact.variant.value, ARTIFACT_MODULE, config.bundle, config.bundle / artifact.file)
        for artifact in manifest.artifacts
        if not wanted or artifact.variant.value in wanted
    ]
    return (*keras, *artifacts)


def _subject(name: str, module: str, model: Path, file: Path) -> SubjectPlan:
    size, sha256 = (file.stat().st_size, file_sha256(file)) if file.is_file() else (0, "")
    return SubjectPlan(name, module, model.resolve(), file, size, sha256)


def remarks_on_checks(manifest: Manifest, plans: Sequence[SubjectPlan]) -> tuple[str, ...]:
    """Write a sentence for each planned artifact that failed its accuracy check at conversion."""
    planned = {plan.name for plan in plans}
    return tuple(
        f"{artifact.variant.value} did not pass its check at conversion (accuracy {artifact.check.accuracy:.1%} "
        f"against {artifact.check.keras_accuracy:.1%} of Keras on {artifact.check.images} images)."
        for artifact in manifest.artifacts
        if artifact.variant.value in planned and artifact.check is not None and not artifact.check.passed
    )


def remarks_on_plan(config: BenchConfig) -> tuple[str, ...]:
    """Write a sentence for each thing that ``--quick`` left out."""
    settings = config.settings
    if not settings.quick:
        return ()
    images = (f"No more than {settings.limit} images were drawn, by --quick or --limit.",) if settings.limit else ()
    ways = (f"{KERAS_PREDICT} and {KERAS_XLA} were left out by --quick.",) if config.keras is not None else ()
    return (*images, *ways)


def check_run(run: Path, bundle_manifest: Manifest) -> tuple[str, ...]:
    """Check that a run's Keras model can be compared with a bundle.

    Returns:
        A sentence for the report if the bundle may come from another run, else nothing.

    Raises:
        ModelError: Not a run directory.
        CompatibilityError: Labels, input or output differ from the bundle's.
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
