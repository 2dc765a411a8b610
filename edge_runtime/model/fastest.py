"""Choose the variant of a bundle: the fastest measured on this machine, else the presumed fastest.

A measurement belongs to the exact files, this processor and the installed runtimes. It lies in the user's cache folder
and may be removed at any time; a damaged one is ignored. Reading takes about a millisecond at each start.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.contract import Manifest, Variant
from edge_runtime.errors import ManifestError, ModelError, OutputError
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import cache_folder
from edge_runtime.strict import from_json, to_mapping

SCHEMA_VERSION = 1
_FOLDER = "fastest"
_MAX_BYTES = 1 << 16
_RUNTIMES = ("ai_edge_litert", "tflite_runtime", "onnxruntime")
# Two measurements closer than this count as equal, and the presumed order decides.
_TIE = 1.05

# Presumed until a benchmark has run here: XNNPACK's int8 kernels win on Arm, its float ones on x86. It computes float16
# weights as float32, and has no kernels for int16 activations: 20 ms where float32 takes 0.7. ONNX stands behind the
# others because its runtime is an extra. The Edge TPU's file comes before all where its delegate is installed.
_INT8_FIRST = (Variant.INT8, Variant.INT8_PER_TENSOR)
_FLOAT_FIRST = (Variant.FLOAT32, Variant.FLOAT16)
_BEHIND = (Variant.DYNAMIC, Variant.ONNX_INT8, Variant.ONNX_FLOAT32, Variant.INT16X8)
ARM_ORDER = (*_INT8_FIRST, *_FLOAT_FIRST, *_BEHIND)
X86_ORDER = (*_FLOAT_FIRST, *_INT8_FIRST, *_BEHIND)


@dataclass(frozen=True)
class FastestRecord:
    """One measurement.

    Attributes:
        machine: Processor and runtimes, from `machine_identity`.
        fastest: The variant to take.
        latency_ms: Median milliseconds of one inference in one thread, by variant.
        schema_version: Version of this record, `SCHEMA_VERSION`.
    """

    machine: str
    fastest: Variant
    latency_ms: dict[str, float]
    schema_version: int = SCHEMA_VERSION


def default_variant(bundle: Path, manifest: Manifest) -> Variant:
    """Choose the variant of a bundle: the fastest measured here, else the presumed fastest that passed its check.

    Raises:
        ModelError: No variant that can run here passed its check.
    """
    has_edgetpu = any(artifact.variant is Variant.EDGETPU for artifact in manifest.artifacts) and _has_delegate()
    measured = fastest_here(manifest)
    if measured is not None and (measured is not Variant.EDGETPU or has_edgetpu):
        return measured
    if has_edgetpu and Variant.EDGETPU in candidates(manifest):
        return Variant.EDGETPU
    variant = cpu_variant(manifest)
    if variant:
        return variant
    if {artifact.variant for artifact in manifest.artifacts} == {Variant.EDGETPU} and not has_edgetpu:
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
    return ARM_ORDER if platform.machine().lower().startswith(("aarch64", "arm")) else X86_ORDER


def candidates(manifest: Manifest) -> tuple[Variant, ...]:
    """Variants of a bundle whose check passed, so that they may be chosen by default."""
    return tuple(item.variant for item in manifest.artifacts if item.check is not None and item.check.passed)


def fastest_here(manifest: Manifest) -> Variant | None:
    """Read the variant that was measured fastest here; None without a valid record. Never raises."""
    try:
        with record_path(manifest).open("rb") as file:
            record = from_json(
                FastestRecord, file.read(_MAX_BYTES + 1), "record", schema_version=SCHEMA_VERSION, max_bytes=_MAX_BYTES
            )
    except (OSError, RuntimeError, ManifestError):
        return None
    if record.machine != machine_identity() or record.fastest not in candidates(manifest):
        return None
    return record.fastest


def remember_fastest(
    manifest: Manifest, latency_ms: Mapping[Variant, float], presumed: tuple[Variant, ...] | None = None
) -> Variant | None:
    """Record the fastest variant on this machine.

    Args:
        manifest: Manifest of the bundle.
        latency_ms: Median milliseconds of one inference in one thread, of each variant that ran well here.
        presumed: Order that decides between variants of equal speed; None takes `default_order`.

    Returns:
        The default variant from now on; None if no measured variant passed its check.

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
    return cache_folder() / _FOLDER / f"{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:32]}.json"


def _has_delegate() -> bool:
    from edge_runtime.engines.litert import is_edgetpu_library_installed

    return is_edgetpu_library_installed()
