"""Find a bundle or a single model file, check its integrity, choose the variant, and open it in a runtime.

A model of others carries no manifest: the caller completes its contract through `ModelOptions`; nothing is guessed. A
file that has not passed the sandbox on this machine runs there first, since a checksum beside or inside a file says
nothing about its author; where the Edge TPU cannot be used, the CPU fallback is opened.

The variant of a bundle is the fastest measured on this machine, else the presumed fastest. A measurement belongs to the
exact files, this processor and the installed runtimes. It lies in the user's cache folder and may be removed at any
time; a damaged one is ignored. Reading takes about a millisecond at each start.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_runtime.contract import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    Artifact,
    Crop,
    InputSpec,
    Manifest,
    OutputSpec,
    Variant,
)
from edge_runtime.engines import (
    Engine,
    EngineName,
    import_runtime,
    is_edgetpu_library_installed,
    open_engine,
    parse_engine,
)
from edge_runtime.errors import EngineError, IntegrityError, ManifestError, ModelError, OutputError, UsageError
from edge_runtime.model.embedded import NO_METADATA, ModelMetadata, Range, embedded_manifest, model_metadata
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import cache_folder
from edge_runtime.strict import from_json, open_regular, to_mapping
from edge_runtime.tflite.validation import Structure, read_structure

SANDBOX_VARIABLE = "EDGEKIT_TRIAL"
PASSES_FOLDER = "sandbox"
# Passes known to this process, so that one classifier a core costs one hash: path, inode, size, mtime and runtime.
_passed: set[tuple[str, int, int, int, str]] = set()
_FORMATS = (".tflite", ".onnx")
RECORD_VERSION = 1
_RECORD_FOLDER = "fastest"
_MAX_RECORD_BYTES = 1 << 16
_RUNTIMES = ("ai_edge_litert", "tflite_runtime", "onnxruntime")
# Two measurements closer than this count as equal, and the presumed order decides.
_TIE = 1.05

# Presumed until a benchmark has run here: XNNPACK's int8 kernels win on Arm, its float ones on x86. It computes float16
# weights as float32, and has no kernels for int16 activations: 20 ms where float32 takes 0.7. ONNX stands behind the
# others because its runtime is an extra. The Edge TPU's file comes before all where its delegate is installed.
_INT8 = (Variant.INT8, Variant.INT8_PER_TENSOR)
_FLOAT = (Variant.FLOAT32, Variant.FLOAT16)
_BEHIND = (Variant.DYNAMIC, Variant.ONNX_INT8, Variant.ONNX_FLOAT32, Variant.INT16X8)


@dataclass(frozen=True)
class ModelOptions:
    """Contract of a model without a manifest, as far as its file does not carry it.

    Attributes:
        labels: Labels in output order, or None.
        crop: Crop policy for images of another shape, or None.
        input_range: Input values for the pixel values 0 and 255 of a float or int8 input, or None.
    """

    labels: tuple[str, ...] | None = None
    crop: Crop | None = None
    input_range: Range | None = None


@dataclass(frozen=True)
class ModelFile:
    """A model file whose integrity and structure were checked, not yet opened in a runtime.

    Attributes:
        path: The ``.tflite`` or ``.onnx`` file.
        manifest: Manifest of the bundle or of the file; None for a model of others.
        artifact: Entry of the bundle for this file; None for a single file.
        options: Contract given by the caller for a model without a manifest.
        structure: Result of the structural check of a ``.tflite``; None for an ``.onnx``.
        metadata: TFLite Metadata of a model without a manifest.
        cpu_fallback: CPU variant of the same bundle, for a model compiled for the Edge TPU; otherwise None.
        is_default: True if the bundle's variant was chosen here and not by the caller.
    """

    path: Path
    manifest: Manifest | None
    artifact: Artifact | None
    options: ModelOptions
    structure: Structure | None = None
    metadata: ModelMetadata = NO_METADATA
    cpu_fallback: Variant | None = None
    is_default: bool = False

    @property
    def input_spec(self) -> InputSpec | None:
        """Geometry of the input, from the manifest."""
        return self.manifest.input if self.manifest else None

    @property
    def output_spec(self) -> OutputSpec | None:
        """Meaning of the output, from the manifest."""
        return self.manifest.output if self.manifest else None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Labels from the manifest, else from the options, else from the metadata."""
        return self.manifest.labels if self.manifest else self.options.labels or self.metadata.labels

    @property
    def input_ranges(self) -> tuple[Range, ...] | None:
        """Input values for pixels 0 and 255, once or for each channel, from the options or the metadata."""
        return (self.options.input_range,) if self.options.input_range else self.metadata.input_ranges


def find_model(
    path: Path,
    variant: Variant | None = None,
    options: ModelOptions | None = None,
    *,
    engine: EngineName | str = EngineName.AUTO,
) -> ModelFile:
    """Find and check the model file behind ``MODEL|BUNDLE``.

    Args:
        path: A bundle directory, or one ``.tflite`` or ``.onnx`` file.
        variant: Artifact of a bundle; None takes the fastest on this device, as far as is known.
        options: Contract of a model without a manifest.
        engine: Engine name as `parse_engine` takes it; ``edgetpu`` chooses the ``edgetpu`` variant of a bundle.

    Raises:
        ModelError: No such file, or not a model.
        ManifestError: A manifest that does not follow the schema.
        IntegrityError: A SHA-256 that does not match, or a damaged file.
        UsageError: The bundle has no such variant.
    """
    options = options or ModelOptions()
    if path.is_dir():
        if variant is None and parse_engine(engine)[0] is EngineName.EDGETPU:
            variant = Variant.EDGETPU
        return _from_bundle(path, variant, options)
    if not path.is_file():
        raise ModelError(f"{path}: no such file or folder; expected a bundle, a .tflite or an .onnx file")
    if path.suffix not in _FORMATS:
        raise ModelError(f"{path}: expected a bundle folder, a .tflite or an .onnx file, got {path.name!r}")
    if variant is not None:
        raise UsageError(f"{path}: --variant goes with a bundle; this is one file already")
    manifest, structure = embedded_manifest(path), _structure(path)
    metadata = model_metadata(path, structure) if structure and not manifest else NO_METADATA
    return ModelFile(path, manifest, None, options, structure, metadata)


def _from_bundle(bundle: Path, variant: Variant | None, options: ModelOptions) -> ModelFile:
    manifest = read_bundle_manifest(bundle)
    by_variant = {artifact.variant: artifact for artifact in manifest.artifacts}
    if not by_variant:
        raise ModelError(f"{bundle}: holds no exported model; expected a bundle, run edge-convert run {bundle} first")
    if variant is not None and variant not in by_variant:
        known = ", ".join(known.value for known in by_variant)
        raise UsageError(f"{bundle}: has no variant {variant.value}; it holds {known}")
    artifact = by_variant[variant or default_variant(bundle, manifest)]
    path = check_artifact(bundle, artifact)
    fallback = cpu_variant(manifest) if artifact.variant is Variant.EDGETPU else None
    return ModelFile(
        path, manifest, artifact, options, _structure(path), cpu_fallback=fallback, is_default=variant is None
    )


class OpenedModel(NamedTuple):
    """An opened model; ``note`` is one sentence for the user where ``model`` is the CPU fallback, else None."""

    model: ModelFile
    engine: Engine
    note: str | None = None


def open_model(model: ModelFile, engine: EngineName | str = EngineName.AUTO, threads: int = 1) -> OpenedModel:
    """Open a model that `find_model` found; a file that has not passed the sandbox here runs there first.

    Where the Edge TPU variant of a bundle was chosen by default and the Edge TPU cannot be used, the CPU fallback of
    the same bundle is opened.

    Raises:
        EdgeKitError: It cannot be used here; see `edge_runtime.errors`.
    """
    try:
        return OpenedModel(model, _open(model, engine, threads))
    except EngineError as error:
        is_wanted = parse_engine(engine)[0] is EngineName.EDGETPU
        if model.cpu_fallback is None or not model.is_default or is_wanted:
            raise
        reason = str(error).removeprefix(f"{model.path}: ")
    fallback = find_model(model.path.parent, model.cpu_fallback)
    note = f"{model.path}: {reason}; {fallback.path.name} runs on the processor instead"
    return OpenedModel(fallback, _open(fallback, engine, threads), note)


def _open(model: ModelFile, engine: EngineName | str, threads: int) -> Engine:
    advice = f"run the same bundle with --variant {model.cpu_fallback.value}" if model.cpu_fallback else None
    if os.environ.get(SANDBOX_VARIABLE, "").lower() != "off":
        _pass_sandbox(model, engine, advice)
    return open_engine(model.path, engine, threads, structure=model.structure, cpu_fallback=advice)


def _pass_sandbox(model: ModelFile, engine: EngineName | str, cpu_fallback: str | None) -> None:
    """Run a file in the sandbox unless a record says that it has passed: this content, runtime and processor.

    A false hit could crash this process, so any doubt about a record counts as a miss.
    """
    runtime, status = import_runtime(model.path, engine), model.path.stat()
    identity = (str(model.path), status.st_ino, status.st_size, status.st_mtime_ns, runtime)
    if identity in _passed:
        return
    sha256, machine = model.artifact.sha256 if model.artifact else file_sha256(model.path), os.uname()
    record = f"{sha256}\n{runtime}\n{machine.machine} {machine.nodename}\nok\n"
    name = "-".join(record.split("\n")[:3]).replace(" ", "-").replace("/", "-")
    with (
        contextlib.suppress(OSError, ValueError, RuntimeError),  # RuntimeError: a user without a home
        (cache_folder() / PASSES_FOLDER / name).open(encoding="utf-8") as file,
    ):
        if file.read(len(record) + 1) == record:
            _passed.add(identity)
            return
    # Imported here because only the first run of a file needs them.
    from edge_runtime.model.sandbox import require_sandbox_pass
    from edge_runtime.platform.atomic import write_atomic

    if require_sandbox_pass(model.path, engine, runtime, cpu_fallback):
        _passed.add(identity)
        with contextlib.suppress(OutputError, OSError, RuntimeError):
            write_atomic(cache_folder() / PASSES_FOLDER / name, record)


def forget_passes() -> None:
    """Forget the passes that this process has seen; those in the cache folder stay."""
    _passed.clear()


def missing_options(model: ModelFile, engine: Engine | None) -> tuple[str, ...]:
    """List the command-line options that a model without a manifest still needs, each with its meaning.

    ``engine`` is None where the model cannot be opened here.
    """
    missing = []
    if model.manifest:
        return ()
    if model.labels is None:
        lines = f" ({math.prod(engine.output.shape)} lines)" if engine else ""
        missing.append(f"--labels FILE, one label a line{lines}")
    if model.options.crop is None:
        missing.append("--crop center|stretch|letterbox, as in its training")
    if engine and engine.input.dtype != "uint8" and model.input_ranges is None:
        missing.append(f"--input-range LOW,HIGH, what pixels 0 and 255 become ({engine.input.dtype} input)")
    return tuple(missing)


def read_bundle_manifest(bundle: Path) -> Manifest:
    """Parse the manifest of a bundle, without reading its artifacts."""
    manifest_path = bundle / MANIFEST_FILE
    try:
        with open_regular(manifest_path) as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"{bundle}: expected a bundle, but {MANIFEST_FILE} cannot be read ({error.strerror})"
        ) from error
    return Manifest.from_json(text, where=str(manifest_path))


def check_artifact(bundle: Path, artifact: Artifact) -> Path:
    """Compare one artifact with its SHA-256 and give its path; raise IntegrityError if it is missing or altered."""
    path = bundle / artifact.file
    if not path.is_file():
        raise IntegrityError(f"{path}: is named in the bundle's manifest but is missing; copy the whole bundle again")
    found = file_sha256(path)
    if found != artifact.sha256:
        raise IntegrityError(
            f"{path}: was altered or damaged (expected SHA-256 {artifact.sha256[:12]}…, got {found[:12]}…); "
            "copy the bundle again"
        )
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _structure(path: Path) -> Structure | None:
    return read_structure(path) if path.suffix == ".tflite" else None


@dataclass(frozen=True)
class FastestRecord:
    """Measurement on one `machine_identity`: median milliseconds of one inference in one thread, by variant."""

    machine: str
    fastest: Variant
    latency_ms: dict[str, float]
    schema_version: int = RECORD_VERSION


def default_variant(bundle: Path, manifest: Manifest) -> Variant:
    """Choose the variant of a bundle: the fastest measured here, else the presumed fastest that passed its check.

    Raises:
        ModelError: No variant that can run here passed its check.
    """
    held = {artifact.variant for artifact in manifest.artifacts}
    has_edgetpu = Variant.EDGETPU in held and is_edgetpu_library_installed()
    measured = fastest_here(manifest)
    if measured is not None and (measured is not Variant.EDGETPU or has_edgetpu):
        return measured
    if has_edgetpu and Variant.EDGETPU in candidates(manifest):
        return Variant.EDGETPU
    if variant := cpu_variant(manifest):
        return variant
    if held == {Variant.EDGETPU} and not has_edgetpu:
        raise ModelError(
            f"{bundle}: holds only a model for the Edge TPU, and its delegate is not installed here; install "
            "libedgetpu1-std, or convert the model again with --variant int8 too"
        )
    raise ModelError(
        f"{bundle}: no artifact that can run here passed its check; name one with --variant to use it all the same"
    )


def cpu_variant(manifest: Manifest) -> Variant | None:
    """Give the presumed fastest CPU variant whose check passed, or None."""
    passed = candidates(manifest)
    return next((variant for variant in default_order() if variant in passed), None)


def default_order() -> tuple[Variant, ...]:
    """CPU variants, the presumed fastest on this processor first."""
    is_arm = platform.machine().lower().startswith(("aarch64", "arm"))
    return (*_INT8, *_FLOAT, *_BEHIND) if is_arm else (*_FLOAT, *_INT8, *_BEHIND)


def candidates(manifest: Manifest) -> tuple[Variant, ...]:
    """Variants of a bundle whose check passed, so that they may be chosen by default."""
    return tuple(item.variant for item in manifest.artifacts if item.check is not None and item.check.passed)


def fastest_here(manifest: Manifest) -> Variant | None:
    """Read the variant that was measured fastest here; None without a valid record. Never raises."""
    try:
        with record_path(manifest).open("rb") as file:
            text = file.read(_MAX_RECORD_BYTES + 1)
        limits = {"schema_version": RECORD_VERSION, "max_bytes": _MAX_RECORD_BYTES}
        record = from_json(FastestRecord, text, "record", **limits)
    except (OSError, RuntimeError, ManifestError):
        return None
    if record.machine != machine_identity() or record.fastest not in candidates(manifest):
        return None
    return record.fastest


def remember_fastest(
    manifest: Manifest, latency_ms: Mapping[Variant, float], presumed: tuple[Variant, ...] | None = None
) -> Variant | None:
    """Record and return the fastest variant on this machine; None if no measured variant passed its check.

    Args:
        manifest: Manifest of the bundle.
        latency_ms: Median milliseconds of one inference in one thread, of each variant that ran well here.
        presumed: Order that decides between variants of equal speed; None takes `default_order`.

    Raises:
        OutputError: There is no cache folder, or it cannot be written.
    """
    known = {variant: latency_ms[variant] for variant in candidates(manifest) if variant in latency_ms}
    if not known:
        return None
    limit_ms = min(known.values()) * _TIE
    equals = [variant for variant, value_ms in known.items() if value_ms <= limit_ms]
    order = (*(default_order() if presumed is None else presumed), *equals)
    fastest = min(equals, key=order.index)
    # Imported here, because a start of edge-run that only reads can do without.
    from edge_runtime.platform.atomic import write_atomic

    try:
        path = record_path(manifest)
    except RuntimeError as error:
        raise OutputError("this user has no home folder; set EDGEKIT_CACHE to one that can be written") from error
    record = FastestRecord(machine_identity(), fastest, {variant.value: value for variant, value in latency_ms.items()})
    write_atomic(path, json.dumps(to_mapping(record), indent=2, allow_nan=False) + "\n")
    return fastest


def machine_identity() -> str:
    """Processor, architecture and installed runtimes with their versions, found without importing them."""
    return " | ".join((cpu_model(), platform.machine(), *installed_runtimes()))


def installed_runtimes() -> list[str]:
    """Names of the metadata folders of the runtimes, such as ``ai_edge_litert-2.3.0.dist-info``."""
    folders: set[Path] = set()
    for package in _RUNTIMES:
        with contextlib.suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(package)
            folders.update(Path(place).parent for place in (spec and spec.submodule_search_locations) or [])
    names: list[str] = []
    for folder in folders:
        with contextlib.suppress(OSError):
            names += [path.name for path in folder.iterdir() if path.name.lower().startswith(_RUNTIMES)]
    return sorted(name for name in names if name.endswith("-info"))


def record_path(manifest: Manifest) -> Path:
    """Path of the record for exactly these artifacts."""
    digests = sorted(f"{artifact.variant.value} {artifact.sha256}" for artifact in manifest.artifacts)
    return cache_folder() / _RECORD_FOLDER / f"{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:32]}.json"
