"""Find a bundle or a single model file, check its integrity and read its manifest.

A ``.tflite`` that edgekit wrote carries a zip at its end (TFLite Metadata's associated files): labels, manifest,
and the SHA-256 of the FlatBuffer before it. A ``.onnx`` carries the same in ``metadata_props``. For other files
the TFLite Metadata is read, and the caller completes the contract through `Foreign`; nothing is guessed.

A ``.tflite`` that edgekit wrote carries a zip at its end (TFLite Metadata's associated files): labels, manifest, and
the SHA-256 of the FlatBuffer before it. A ``.onnx`` carries the same in ``metadata_props``. For a file from elsewhere
its own TFLite Metadata is read, and the caller completes the contract through `Foreign`; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

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
from edge_runtime.errors import IntegrityError, ModelError, UsageError
from edge_runtime.model.embedded import read_embedded
from edge_runtime.tflite.flatbuffer import DamageError
from edge_runtime.tflite.metadata import METADATA_NAME, NO_METADATA, ModelMetadata, read_metadata
from edge_runtime.tflite.validation import Structure, read_structure


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


_FORMATS = (".tflite", ".onnx")
# Presumed until a benchmark has run here: XNNPACK's int8 kernels win on Arm, its float ones on x86. It computes float16
# weights as float32, and has no kernels for int16 activations: 20 ms where float32 takes 0.7. ONNX stands behind the
# others because its runtime is an extra. The Edge TPU's file comes before all where its delegate is installed.
_INT8_FIRST = (Variant.INT8, Variant.INT8_PER_TENSOR)
_FLOAT_FIRST = (Variant.FLOAT32, Variant.FLOAT16)
_BEHIND = (Variant.DYNAMIC, Variant.ONNX_INT8, Variant.ONNX_FLOAT32, Variant.INT16X8)
_ARM_ORDER = (*_INT8_FIRST, *_FLOAT_FIRST, *_BEHIND)
_X86_ORDER = (*_FLOAT_FIRST, *_INT8_FIRST, *_BEHIND)


@dataclass(frozen=True)
class Foreign:
    """What a person says about a model that carries no manifest.

    Attributes:
        labels: In output order, or None.
        crop: Geometry policy, or None.
        input_range: What the pixel values 0 and 255 become for a float or int8 input, or None.
    """

    labels: tuple[str, ...] | None = None
    crop: Crop | None = None
    input_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class ModelFile:
    """One model file that has passed its integrity and structural checks, not yet opened by a runtime.

    Attributes:
        path: The ``.tflite`` or ``.onnx`` file.
        manifest: From the bundle or from inside the file; None for a model from elsewhere.
        artifact: The bundle's entry for this file; None for a single file.
        foreign: What was said about a model without a manifest.
        structure: What the structural check has seen of a ``.tflite``; None for an ``.onnx``.
        metadata: What a model without a manifest says about itself.
        cpu_twin: For a model compiled for the Edge TPU, the variant of the same bundle that runs without one.
        is_default: Whether it was taken from a bundle of which nobody had named a variant.
    """

    path: Path
    manifest: Manifest | None
    artifact: Artifact | None
    foreign: Foreign
    structure: Structure | None = None
    metadata: ModelMetadata = NO_METADATA
    cpu_twin: Variant | None = None
    is_default: bool = False

    @property
    def input_spec(self) -> InputSpec | None:
        """Geometry from the manifest."""
        return self.manifest.input if self.manifest else None

    @property
    def output_spec(self) -> OutputSpec | None:
        """Output meaning from the manifest."""
        return self.manifest.output if self.manifest else None

    @property
    def labels(self) -> tuple[str, ...] | None:
        """From the manifest; else as was said; else from the file's metadata."""
        return self.manifest.labels if self.manifest else self.foreign.labels or self.metadata.labels

    @property
    def input_ranges(self) -> tuple[tuple[float, float], ...] | None:
        """What pixels 0 and 255 become, once or for each channel, as was said or as the file's metadata says."""
        return (self.foreign.input_range,) if self.foreign.input_range else self.metadata.input_ranges

    @property
    def is_vouched_for(self) -> bool:
        """Whether a SHA-256 that a manifest brought was compared: of the file, or inside a ``.tflite``."""
        return self.artifact is not None or (self.manifest is not None and self.path.suffix == ".tflite")


def find_model(path: Path, variant: Variant | None = None, foreign: Foreign | None = None) -> ModelFile:
    """Find and check the model file behind ``MODEL|BUNDLE``.

    Args:
        path: A bundle directory, or one ``.tflite`` or ``.onnx`` file.
        variant: Which artifact of a bundle; None takes what this device is presumed to run fastest.
        foreign: Options for a model without a manifest.

    Raises:
        ModelError: No such file, or not a model.
        ManifestError: A manifest that does not follow the schema.
        IntegrityError: A SHA-256 that does not match, or a damaged file.
        UsageError: The bundle has no such variant.
    """
    foreign = foreign or Foreign()
    if path.is_dir():
        return _from_bundle(path, variant, foreign)
    if not path.is_file():
        raise ModelError(f"{path}: no such file or folder; expected a bundle, a .tflite or an .onnx file")
    if path.suffix not in _FORMATS:
        raise ModelError(f"{path}: expected a bundle folder, a .tflite or an .onnx file, got {path.name!r}")
    if variant is not None:
        raise UsageError(f"{path}: --variant goes with a bundle; this is one file already")
    manifest, structure = _embedded_manifest(path), _structure(path)
    metadata = _metadata(path, structure) if structure and not manifest else NO_METADATA
    return ModelFile(path, manifest, None, foreign, structure, metadata)


def read_bundle_manifest(bundle: Path) -> Manifest:
    """Parse a bundle's manifest, without looking at its artifacts."""
    manifest_path = bundle / MANIFEST_FILE
    try:
        with manifest_path.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ModelError(
            f"{bundle}: expected a bundle, but {MANIFEST_FILE} cannot be read ({error.strerror})"
        ) from error
    return Manifest.from_json(text, where=str(manifest_path))


def check_artifact(bundle: Path, artifact: Artifact) -> Path:
    """Compare one artifact with its SHA-256 and give its path.

    Raises:
        IntegrityError: The file is missing or was altered.
    """
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


def default_order() -> tuple[Variant, ...]:
    """Variants that are taken by themselves, the presumed fastest on this processor first."""
    is_arm = platform.machine().lower().startswith(("aarch64", "arm"))
    return _ARM_ORDER if is_arm else _X86_ORDER


def _from_bundle(bundle: Path, variant: Variant | None, foreign: Foreign) -> ModelFile:
    manifest = read_bundle_manifest(bundle)
    by_variant = {artifact.variant: artifact for artifact in manifest.artifacts}
    if not by_variant:
        raise ModelError(f"{bundle}: holds no exported model; expected a bundle, run edge-convert run {bundle} first")
    if variant is not None and variant not in by_variant:
        known = ", ".join(known.value for known in by_variant)
        raise UsageError(f"{bundle}: has no variant {variant.value}; it holds {known}")
    chosen = by_variant[variant] if variant is not None else _fastest(bundle, manifest, by_variant)
    path = check_artifact(bundle, chosen)
    twin = _first_passed(by_variant, default_order()) if chosen.variant is Variant.EDGETPU else None
    return ModelFile(
        path,
        manifest,
        chosen,
        foreign,
        _structure(path),
        cpu_twin=twin.variant if twin else None,
        is_default=variant is None,
    )


def _fastest(bundle: Path, manifest: Manifest, by_variant: dict[Variant, Artifact]) -> Artifact:
    """What was measured fastest here, else what is presumed so."""
    from edge_runtime.model.fastest import fastest_here

    has_edgetpu = Variant.EDGETPU in by_variant and _is_edgetpu_there()
    measured = fastest_here(manifest)
    if measured is not None and (measured is not Variant.EDGETPU or has_edgetpu):
        return by_variant[measured]
    order = (Variant.EDGETPU, *default_order()) if has_edgetpu else default_order()
    artifact = _first_passed(by_variant, order)
    if artifact:
        return artifact
    if set(by_variant) == {Variant.EDGETPU} and not has_edgetpu:
        raise ModelError(
            f"{bundle}: holds only a model for the Edge TPU, and its delegate is not installed here; install "
            "libedgetpu1-std, or convert the model again with --variant int8 too"
        )
    raise ModelError(
        f"{bundle}: no artifact that can run here passed its check; name one with --variant to use it all the same"
    )


def _first_passed(by_variant: dict[Variant, Artifact], order: tuple[Variant, ...]) -> Artifact | None:
    for variant in order:
        artifact = by_variant.get(variant)
        if artifact and artifact.check and artifact.check.passed:
            return artifact
    return None


def _is_edgetpu_there() -> bool:
    from edge_runtime.engines.edgetpu import is_library_there

    return is_library_there()


def _structure(path: Path) -> Structure | None:
    return read_structure(path) if path.suffix == ".tflite" else None


def _metadata(path: Path, structure: Structure) -> ModelMetadata:
    flatbuffer = structure.metadata.get(METADATA_NAME)
    try:
        return read_metadata(path, flatbuffer) if flatbuffer else NO_METADATA
    except DamageError:
        return NO_METADATA  # what it would have said must be said by a person


def _embedded_manifest(path: Path) -> Manifest | None:
    embedded = read_embedded(path)
    if embedded is None:
        return None
    manifest = Manifest.from_json(embedded.manifest_json, where=f"{path} (embedded manifest)")
    if embedded.labels != manifest.labels:
        raise IntegrityError(f"{path}: the labels inside the file differ from those of its manifest; export it again")
    return manifest
