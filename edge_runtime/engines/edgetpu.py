"""Edge TPU delegate: libedgetpu loaded by the installed TFLite runtime (pycoral is not needed)."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from edge_runtime.errors import EngineError

LIBRARY_VARIABLE = "EDGEKIT_EDGETPU_LIBRARY"
_LIBRARY = "libedgetpu.so.1"


def library() -> str:
    """Name or path of the delegate's library: ``$EDGEKIT_EDGETPU_LIBRARY``, else ``libedgetpu.so.1``."""
    return os.environ.get(LIBRARY_VARIABLE) or _LIBRARY


def is_library_there() -> bool:
    """Whether the delegate's library is installed and loads; whether a device is there shows on opening a model."""
    try:
        ctypes.CDLL(library())
    except OSError:
        return False
    return True


def load_delegate(path: Path, runtime: ModuleType, device: str | None, twin: str | None) -> Any:
    """Make a delegate.

    Args:
        path: The model, for the message.
        runtime: Module with ``load_delegate``.
        device: Which Edge TPU, in libedgetpu's words: ``usb``, ``pci``, ``usb:1``, ``:0``; None takes any.
        twin: How to run the same model without an Edge TPU, for the message.

    Raises:
        EngineError: There is no such library, or no such device.
    """
    try:
        # First by hand, since the runtime's own class complains on standard error about a library that does not load.
        ctypes.CDLL(library())
        return runtime.load_delegate(library(), {"device": device} if device else {})
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        which = f" as device {device}" if device else ""
        raise EngineError(
            f"{path}: was compiled for the Edge TPU, and its delegate {library()} cannot be used{which} ({reason}); "
            f"plug the Edge TPU in and install libedgetpu1-std, or {twin or 'give the int8 variant of the same model'}"
        ) from error
