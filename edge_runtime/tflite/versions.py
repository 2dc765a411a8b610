"""Find the lowest runtime release that has the operators of a model, and check the installed one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_runtime.errors import EngineError, UsageError
from edge_runtime.tflite.schema import EDGETPU_OPERATOR
from edge_runtime.tflite.validation import OperatorCode
from edge_runtime.tflite.version_table import (
    BUNDLED_CUSTOM,
    LAST_TFLITE_RUNTIME,
    LITERT_LACKS,
    LITERT_NEWEST,
    LITERT_RELEASE,
    RELEASES,
)

LITERT = "litert"
TFLITE_RUNTIME = "tflite-runtime"
_OLDEST = "1.5.0"
Release = tuple[int, ...]


class Target(NamedTuple):
    """A runtime on a device: ``litert`` or ``tflite-runtime``, and its release, such as ``2.14.0``."""

    name: str
    release: str

    def __str__(self) -> str:
        return f"{self.name} {self.release}"


@dataclass(frozen=True)
class Unsupported:
    """An operator that a runtime does not have, with reason and remedy as clauses of a message.

    ``index`` is its position in the file, counted through all graphs.
    """

    index: int
    name: str
    version: int
    why: str
    remedy: str


def parse_target(text: str) -> Target:
    """Parse ``litert``, ``tflite-runtime``, or either with a release such as ``tflite-runtime==2.11``.

    Raises:
        UsageError: Another runtime, or an unknown release.
    """
    name, given, release = text.partition("==")
    defaults = {LITERT: LITERT_RELEASE, TFLITE_RUNTIME: LAST_TFLITE_RUNTIME}
    if name not in defaults:
        raise UsageError(f"expected {TFLITE_RUNTIME} or {LITERT}, with or without a release (==2.14), got {text!r}")
    if not given:
        return Target(name, defaults[name])
    parsed = parse_release(release)
    if parsed is None:
        raise UsageError(f"expected a release such as {defaults[name]} after {name}==, got {release!r}")
    if name == LITERT and parsed < _release(LITERT_RELEASE):
        raise UsageError(f"the operators of {text} are not known here; expected {LITERT} {LITERT_RELEASE} or newer")
    if name == TFLITE_RUNTIME and parsed > _release(LAST_TFLITE_RUNTIME):
        raise UsageError(
            f"there is no {text}; the last tflite-runtime is {LAST_TFLITE_RUNTIME}, after it came {LITERT}"
        )
    return Target(name, ".".join(map(str, parsed)))


def minimum_runtime(codes: Iterable[OperatorCode]) -> str:
    """Lowest runtime that has every operator and version of a model.

    This is a TensorFlow Lite release such as ``tflite 2.4.0``. Where an operator is newer than the last of those
    releases, it is the LiteRT that is known to have it (``litert 2.3.0``), or ``unknown, newer than litert 2.3.0``.
    Custom operators that no plain runtime has are named: ``tflite with edgetpu-custom-op, 1.5.0``.
    """
    kinds = set(codes)
    custom = sorted(kind.name for kind in kinds if kind.is_custom and kind.name not in BUNDLED_CUSTOM)
    builtin = [(kind.name, kind.version) for kind in kinds if not kind.is_custom]
    extra = f" with {', '.join(custom)}," if custom else ""
    newer = [code for code in builtin if _since(*code) is None]
    if newer:
        newest = Target(LITERT, LITERT_RELEASE)
        known = all(has_builtin(*code, newest) for code in newer)
        return f"{LITERT}{extra} {LITERT_RELEASE}" if known else f"unknown, newer than {newest}"
    lowest = max([_release(_OLDEST), *(_since(*code) or () for code in builtin)])
    return f"tflite{extra} {'.'.join(map(str, lowest))}"


def unsupported(codes: Iterable[OperatorCode], target: Target) -> list[Unsupported]:
    """List the operators of a model, given in the order of the file, that a runtime does not have."""
    found = []
    for index, (name, version, is_custom) in enumerate(codes):
        reason = _custom_reason(name) if is_custom else _reason(name, version, target)
        if reason:
            found.append(Unsupported(index, name, version, *reason))
    return found


def has_builtin(name: str, version: int, target: Target) -> bool:
    """Tell whether a runtime has one version of a built-in operator."""
    since = _since(name, version)
    if target.name == TFLITE_RUNTIME:
        return since is not None and since <= _release(target.release)
    if name in LITERT_LACKS:
        return False
    return since is not None or len(RELEASES.get(name, "").split()) < version <= LITERT_NEWEST.get(name, 0)


def _reason(name: str, version: int, target: Target) -> tuple[str, str] | None:
    if has_builtin(name, version, target):
        return None
    newest = max((v for v in range(1, 32) if has_builtin(name, v, target)), default=None)
    why = f"{target} has no such operator" if newest is None else f"{target} has it up to version {newest} only"
    return why, _remedy(name, version, newest, target)


def _remedy(name: str, version: int, newest: int | None, target: Target) -> str:
    if target.name == LITERT:
        return "update ai-edge-litert, or convert with an older converter"
    ways = []
    since = _since(name, version)
    if since and since <= _release(LAST_TFLITE_RUNTIME):
        ways.append(f"use tflite-runtime {'.'.join(map(str, since))} or newer")
    elif has_builtin(name, version, Target(LITERT, LITERT_RELEASE)):
        ways.append("use LiteRT (ai-edge-litert)")
    if name == "FULLY_CONNECTED" and newest is not None and newest >= 9:
        # Converters from TensorFlow 2.17 on write version 12 for dynamic-range dense layers with per-channel weights.
        ways.append("or convert to int8, or to dynamic range with dense layers quantized per tensor (version 9)")
    elif newest is not None:
        ways.append("or convert for this runtime, without what the newer version added")
    else:
        ways.append("or replace the layer that it comes from")
    return ", ".join(ways).removeprefix("or ")


def _custom_reason(name: str) -> tuple[str, str] | None:
    if name in BUNDLED_CUSTOM:
        return None
    if name == EDGETPU_OPERATOR:
        return "was compiled for the Edge TPU and needs its delegate", "give the int8 file from before compiling"
    if name.startswith("Flex"):
        return (
            "is a TensorFlow (Flex) operator, which only a runtime that brings TensorFlow has",
            "replace the layer that it comes from, and convert with built-in operators only",
        )
    return "is a custom operator, which no plain runtime has", "replace the layer that it comes from"


def _since(name: str, version: int) -> Release | None:
    """Release that added a version of an operator, or None if the table does not have it."""
    releases = RELEASES.get(name, "").split()
    if not 1 <= version <= len(releases) or releases[version - 1] == "-":
        return None
    return _release(releases[version - 1])


def _release(text: str) -> Release:
    parsed = parse_release(text)
    assert parsed is not None  # noqa: S101 - the table's own texts
    return parsed


def parse_release(text: str) -> Release | None:
    """Parse ``2.14`` to (2, 14, 0); None for anything but two or three numbers."""
    numbers = text.split(".")
    if not 2 <= len(numbers) <= 3 or not all(number.isascii() and number.isdigit() for number in numbers):
        return None
    return (*map(int, numbers), *[0] * (3 - len(numbers)))


def check_runtime_supports(path: Path, codes: Iterable[OperatorCode], runtime: str, release: str) -> None:
    """Raise EngineError for an operator that a runtime such as ``litert``, ``2.3.0`` does not have, with a remedy.

    The table ends with the releases that it was made from; a newer runtime is not checked, because it may have more.
    """
    newest_known = LITERT_RELEASE if runtime == LITERT else LAST_TFLITE_RUNTIME
    installed, known = parse_release(release), parse_release(newest_known)
    if installed is None or known is None or installed > known:
        return
    # Older LiteRT releases were not measured; they lack at least what the newest does.
    target = Target(runtime, newest_known if runtime == LITERT else release)
    # The delegate brings this operator, whose version means nothing to the runtime.
    missing = [operator for operator in unsupported(codes, target) if operator.name != EDGETPU_OPERATOR]
    if missing:
        first = missing[0]
        more = f" (and {len(missing) - 1} more operators)" if len(missing) > 1 else ""
        raise EngineError(
            f"{path}: {Target(runtime, release)} cannot run operator {first.index}, {first.name} version "
            f"{first.version}: {first.why}{more}; {first.remedy}"
        )
