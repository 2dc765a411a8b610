"""Remember which variant of a bundle was measured fastest on this machine.

A record belongs to the exact files, this processor and the installed runtimes. It lies in the user's cache folder
and may be removed at any time; a damaged one is ignored. Reading takes about a millisecond.

A memory belongs to the exact files, to this processor and to the installed runtimes; when one of them changes, it no
longer counts. It lies in the user's cache folder, may be removed at any time, and one that is damaged counts as none.
Reading costs about a millisecond, because every start of ``edge-run`` with a bundle does it.
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
from edge_runtime.errors import ManifestError, OutputError
from edge_runtime.platform.board import cpu_model
from edge_runtime.platform.process import cache_folder
from edge_runtime.strict import from_json, to_mapping

SCHEMA_VERSION = 1
_FOLDER = "fastest"
_MAX_BYTES = 1 << 16
_RUNTIMES = ("ai_edge_litert", "tflite_runtime", "onnxruntime")
# Closer than this, two measurements do not tell which is faster, and the presumed order decides.
_TIE = 1.05


@dataclass(frozen=True)
class FastestRecord:
    """One measurement.

    Attributes:
        machine: Processor and runtimes, as `machine_identity` says.
        fastest: The variant to take.
        latency_ms: Median milliseconds of one inference in one thread, by variant.
        schema_version: `SCHEMA_VERSION`.
    """

    machine: str
    fastest: Variant
    latency_ms: dict[str, float]
    schema_version: int = SCHEMA_VERSION


def fastest_here(manifest: Manifest) -> Variant | None:
    """The variant that was measured fastest here, or None where none was, or where it is not one to take by itself.

    Never raises: a default must be found without it too.
    """
    try:
        with _file(manifest).open("rb") as file:
            memory = from_json(
                FastestRecord, file.read(_MAX_BYTES + 1), "memory", schema_version=SCHEMA_VERSION, max_bytes=_MAX_BYTES
            )
    except (OSError, RuntimeError, ManifestError):
        return None
    if memory.machine != machine_identity() or memory.fastest not in candidates(manifest):
        return None
    return memory.fastest


def remember_fastest(
    manifest: Manifest, latency_ms: Mapping[Variant, float], presumed: tuple[Variant, ...]
) -> Variant | None:
    """Write down which variant is fastest here.

    Args:
        manifest: Of the bundle.
        latency_ms: Median milliseconds of one inference in one thread, of each variant that ran well here.
        presumed: The order in which variants are taken without a measurement; it decides between equals.

    Returns:
        The variant that will be taken from now on; None where none is one to take by itself.

    Raises:
        OutputError: There is no cache folder, or it cannot be written.
    """
    known = {variant: latency_ms[variant] for variant in candidates(manifest) if variant in latency_ms}
    if not known:
        return None
    limit_ms = min(known.values()) * _TIE
    equals = [variant for variant, value_ms in known.items() if value_ms <= limit_ms]
    order = (*presumed, *equals)
    fastest = min(equals, key=order.index)
    # Imported here, because a start of edge-run that only reads can do without.
    from edge_runtime.platform.atomic import write_atomic

    try:
        path = _file(manifest)
    except RuntimeError as error:
        raise OutputError("this user has no home folder; set EDGEKIT_CACHE to one that can be written") from error
    memory = FastestRecord(machine_identity(), fastest, {variant.value: value for variant, value in latency_ms.items()})
    write_atomic(path, json.dumps(to_mapping(memory), indent=2, allow_nan=False) + "\n")
    return fastest


def candidates(manifest: Manifest) -> tuple[Variant, ...]:
    """The variants of a bundle that may be taken by themselves: those whose check passed."""
    return tuple(item.variant for item in manifest.artifacts if item.check is not None and item.check.passed)


def machine_identity() -> str:
    """Processor, architecture and installed runtimes with their versions, found without importing them."""
    return " | ".join((cpu_model(), platform.machine(), *_installed_runtimes()))


def _installed_runtimes() -> list[str]:
    """Names of the runtimes' metadata folders, such as ``ai_edge_litert-2.3.0.dist-info``."""
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


def _file(manifest: Manifest) -> Path:
    digests = sorted(f"{artifact.variant.value} {artifact.sha256}" for artifact in manifest.artifacts)
    return cache_folder() / _FOLDER / f"{hashlib.sha256(' '.join(digests).encode()).hexdigest()[:32]}.json"
