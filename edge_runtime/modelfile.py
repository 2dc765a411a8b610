"""Open a bundle or a single model file: find the manifest, check integrity, and say what the file takes and gives.

A ``.tflite`` that edgekit wrote carries a zip at its end (TFLite Metadata's associated files): labels, manifest, and
the SHA-256 of the FlatBuffer before it. A ``.onnx`` carries the same in ``metadata_props``. For a file from elsewhere
the caller completes the contract through `Foreign`; nothing is guessed.
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
from edge_runtime.embedded import read_embedded
from edge_runtime.errors import IntegrityError, ModelError, UsageError

_FORMATS = (".tflite", ".onnx")
# Presumed until a benchmark has run here: XNNPACK's int8 kernels win on Arm, its float ones on x86. It computes float16
# weights as float32, and has no kernels for int16 activations: 20 ms where float32 takes 0.7. ONNX stands behind the
# others because its runtime is an extra, and the Edge TPU's file nowhere because nothing here can open it yet.
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
    """One model file that has passed its integrity check, not yet opened by a runtime.

    Attributes:
        path: The ``.tflite`` or ``.onnx`` file.
        manifest: From the bundle or from inside the file; None for a model from elsewhere.
        artifact: The bundle's entry for this file; None for a single file.
        foreign: What was said about a model without a manifest.
    """

    path: Path
    manifest: Manifest | None
    artifact: Artifact | None
    foreign: Foreign

    @property
    def input_spec(self) -> InputSpec | None:
        """Geometry from the manifest."""
        return self.manifest.input if self.manifest else None

    @property
    def output_spec(self) -> OutputSpec | None:
        """Output meaning from the manifest."""
        return self.manifest.output if self.manifest else None


def find_model(path: Path, variant: Variant | None = None, foreign: Foreign | None = None) -> ModelFile:
    """Find and check the model file behind ``MODEL|BUNDLE``.

    Args:
        path: A bundle directory, or one ``.tflite`` or ``.onnx`` file.
        variant: Which artifact of a bundle; None takes what this device is presumed to run fastest.
        foreign: Options for a model without a manifest.

    Raises:
        ModelError: No such file, or not a model.
        ManifestError: A manifest that does not follow the schema.
        IntegrityError: A SHA-256 that does not match.
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
    return ModelFile(path, _embedded_manifest(path), None, foreign)


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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def default_order() -> tuple[Variant, ...]:
    """Variants that are taken by themselves, the presumed fastest on this processor first."""
    is_arm = platform.machine().lower().startswith(("aarch64", "arm"))
    return _ARM_ORDER if is_arm else _X86_ORDER


def _from_bundle(bundle: Path, variant: Variant | None, foreign: Foreign) -> ModelFile:
    manifest = read_bundle_manifest(bundle)
    by_variant = {artifact.variant: artifact for artifact in manifest.artifacts}
    if not by_variant:
        raise ModelError(f"{bundle}: holds no exported model; expected a bundle, run edge-convert run {bundle} first")
    if variant is not None:
        if variant not in by_variant:
            known = ", ".join(known.value for known in by_variant)
            raise UsageError(f"{bundle}: has no variant {variant.value}; it holds {known}")
        chosen = by_variant[variant]
    else:
        chosen = _presumed_fastest(bundle, by_variant)
    return ModelFile(check_artifact(bundle, chosen), manifest, chosen, foreign)


def _presumed_fastest(bundle: Path, by_variant: dict[Variant, Artifact]) -> Artifact:
    for variant in default_order():
        artifact = by_variant.get(variant)
        if artifact and artifact.check and artifact.check.passed:
            return artifact
    if set(by_variant) == {Variant.EDGETPU}:
        raise ModelError(
            f"{bundle}: holds only a model for the Edge TPU, and no Edge TPU delegate is supported yet; convert the "
            "model again with --variant int8 too"
        )
    raise ModelError(
        f"{bundle}: no artifact that can run here passed its check; name one with --variant to use it all the same"
    )


def _embedded_manifest(path: Path) -> Manifest | None:
    embedded = read_embedded(path)
    if embedded is None:
        return None
    manifest = Manifest.from_json(embedded.manifest_json, where=f"{path} (embedded manifest)")
    if embedded.labels != manifest.labels:
        raise IntegrityError(f"{path}: the labels inside the file differ from those of its manifest; export it again")
    return manifest
