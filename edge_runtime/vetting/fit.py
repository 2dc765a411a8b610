"""Whether the installed runtime has the operators of a model, before it is asked to open it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_runtime.errors import EngineError
from edge_runtime.vetting.structure import OperatorCode
from edge_runtime.vetting.version_table import LAST_TFLITE_RUNTIME, LITERT_RELEASE
from edge_runtime.vetting.versions import LITERT, Target, Unsupported, parse_release, unsupported


def check_fit(path: Path, codes: Iterable[OperatorCode], runtime: str, release: str) -> None:
    """Refuse a model with an operator, or a version of one, that the runtime cannot have.

    The table ends with the releases that it was made from. A runtime newer than those may have what the table does not
    know, and decides for itself.

    Args:
        path: The model, for the message.
        codes: The kind of every operator.
        runtime: ``litert`` or ``tflite-runtime``.
        release: Its release, such as ``2.3.0``.

    Raises:
        EngineError: It names the operator, its version, the runtime, and what to do.
    """
    newest_known = LITERT_RELEASE if runtime == LITERT else LAST_TFLITE_RUNTIME
    installed, known = parse_release(release), parse_release(newest_known)
    if installed is None or known is None or installed > known:
        return
    # What older LiteRTs lacked was never asked; they lack at least what the newest does.
    target = Target(runtime, newest_known if runtime == LITERT else release)
    missing = unsupported(codes, target)
    if missing:
        raise EngineError(f"{path}: {_sentence(missing, Target(runtime, release))}")


def _sentence(missing: list[Unsupported], installed: Target) -> str:
    first = missing[0]
    more = f" (and {len(missing) - 1} more operators)" if len(missing) > 1 else ""
    return (
        f"{installed} cannot run operator {first.index}, {first.name} version {first.version}: {first.why}{more}; "
        f"{first.remedy}"
    )
