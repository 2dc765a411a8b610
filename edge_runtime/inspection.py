"""What can be said about a model or bundle without a picture: contract, files, integrity, and what is left to say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import Artifact, Check, Manifest, TensorSpec, Variant
from edge_runtime.errors import CompatibilityError, EdgeKitError, EngineError, IntegrityError
from edge_runtime.modelfile import ModelFile, check_artifact, file_sha256, find_model, read_bundle_manifest
from edge_runtime.vetting.versions import minimum_runtime

_LABELS_SHOWN = 3


@dataclass(frozen=True)
class FileReport:
    """One model file.

    Attributes:
        file: File name.
        variant: Which export; None for a file that is looked at alone.
        bytes: Size of the file as the manifest says; as found where none says.
        sha256: As the manifest says; as found where none says.
        integrity: ``intact`` or ``altered`` against a recorded SHA-256; ``unknown`` where none is recorded.
        problem: Why it cannot be used here; None where nothing is wrong.
        problem_exit_code: Exit code of that problem, 0 without one.
        input: Input tensor, or None where it cannot be read here.
        output: Output tensor, or None where it cannot be read here.
        minimum_runtime: Lowest runtime that opens it; None where nothing says.
        check: What it was measured to do; None where it was not.
        is_default: Whether this device takes it when no variant is named.
    """

    file: str
    variant: Variant | None
    bytes: int
    sha256: str
    integrity: str
    problem: str | None
    problem_exit_code: int
    input: TensorSpec | None
    output: TensorSpec | None
    minimum_runtime: str | None
    check: Check | None
    is_default: bool


@dataclass(frozen=True)
class Inspection:
    """A model or bundle.

    Attributes:
        path: What was looked at.
        kind: ``bundle``, ``run directory`` (trained, not exported), ``file`` (with a manifest) or ``foreign file``.
        manifest: The contract; None for a foreign file.
        files: Its model files.
        to_be_said: For a foreign file, the options that are missing and without which it cannot be run.
        read: For a foreign file, what is known about it and from where, a sentence each.
    """

    path: str
    kind: str
    manifest: Manifest | None
    files: tuple[FileReport, ...]
    to_be_said: tuple[str, ...]
    read: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or that of the first file with a problem."""
        return next((file.problem_exit_code for file in self.files if file.problem), 0)


def inspect_bundle(bundle: Path, variant: Variant | None) -> Inspection:
    """Look at every artifact of a bundle, or at one.

    Raises:
        ModelError: Not a bundle, or a manifest that does not follow the schema.
    """
    manifest = read_bundle_manifest(bundle)
    if variant is not None:
        find_model(bundle, variant)  # refuses a variant that is not there, or was altered
    default = _default_variant(bundle)
    chosen = [artifact for artifact in manifest.artifacts if variant in (None, artifact.variant)]
    files = tuple(_artifact_report(bundle, artifact, is_default=artifact.variant is default) for artifact in chosen)
    kind = "bundle" if manifest.artifacts else "run directory"
    return Inspection(str(bundle), kind, manifest, files, ())


def inspect_file(model: ModelFile, engine_name: str) -> Inspection:
    """Look at one model file by opening it; one that no manifest vouches for is tried in a child process first.

    Raises:
        IntegrityError: The file is damaged.
    """
    from edge_runtime.model_contract import unsaid
    from edge_runtime.model_opening import open_model

    engine, problem, code = None, None, 0
    try:
        engine = open_model(model, engine_name).engine
    except (EngineError, CompatibilityError) as error:
        problem, code = _without_path(error, model.path), error.exit_code
    tensors = model.structure
    report = FileReport(
        file=model.path.name,
        variant=None,
        bytes=model.path.stat().st_size,
        sha256=file_sha256(model.path),
        # find_model has compared the FlatBuffer with the checksum that an exported .tflite carries.
        integrity="intact" if model.manifest and model.path.suffix == ".tflite" else "unknown",
        problem=problem,
        problem_exit_code=code,
        # Those of the file itself show what it takes where no runtime here can open it.
        input=engine.input if engine else tensors.inputs[0] if tensors and tensors.inputs else None,
        output=engine.output if engine else tensors.outputs[0] if tensors and tensors.outputs else None,
        minimum_runtime=minimum_runtime(tensors.codes) if tensors else None,
        check=None,
        is_default=False,
    )
    kind = "file" if model.manifest else "foreign file"
    return Inspection(str(model.path), kind, model.manifest, (report,), unsaid(model, engine), _read(model))


def _read(model: ModelFile) -> tuple[str, ...]:
    """What is known about a model without a manifest, and from where."""
    if model.manifest:
        return ()
    said, inside, found = model.foreign, model.metadata, []
    if model.labels:
        where = "--labels" if said.labels else f"{inside.labels_file} inside the file"
        found.append(f"{len(model.labels)} labels from {where}: {_shown(model.labels)}")
    if model.input_ranges:
        ranges = "; ".join(f"{low:g} to {high:g}" for low, high in model.input_ranges)
        where = "--input-range" if said.input_range else "the normalization in the file's metadata"
        untouched = model.structure and model.structure.inputs and model.structure.inputs[0].dtype == "uint8"
        found.append(f"pixels stand for {ranges}, from {where}" + (", and go in as they are" if untouched else ""))
    if said.crop:
        found.append(f"crop {said.crop.value}, from --crop")
    return tuple(found)


def _artifact_report(bundle: Path, artifact: Artifact, *, is_default: bool) -> FileReport:
    problem, code = None, 0
    try:
        check_artifact(bundle, artifact)
    except IntegrityError as error:
        problem, code = _without_path(error, bundle / artifact.file), error.exit_code
    return FileReport(
        file=artifact.file,
        variant=artifact.variant,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        integrity="altered" if problem else "intact",
        problem=problem,
        problem_exit_code=code,
        input=artifact.input,
        output=artifact.output,
        minimum_runtime=artifact.minimum_runtime,
        check=artifact.check,
        is_default=is_default,
    )


def _default_variant(bundle: Path) -> Variant | None:
    try:
        artifact = find_model(bundle).artifact
    except EdgeKitError:
        return None  # none passed its check, or the one that would be taken was altered
    return artifact.variant if artifact else None


def _without_path(error: EdgeKitError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")


def _shown(labels: tuple[str, ...]) -> str:
    more = len(labels) - _LABELS_SHOWN
    return "; ".join(labels[:_LABELS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
