"""Load Keras quietly and repeatably."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata


def backend_package() -> str:
    """Import name of the backend that Keras will use: ``$KERAS_BACKEND``, else TensorFlow."""
    return os.environ.get("KERAS_BACKEND") or "tensorflow"


def load_keras(seed: int) -> str:
    """Import Keras and seed Python, NumPy and the backend.

    Returns:
        Backend and version, such as ``tensorflow 2.21.0``.
    """
    with _silenced_stderr():
        import keras

    keras.utils.set_random_seed(seed)
    name: str = keras.backend.backend()
    return f"{name} {metadata.version(name)}"


@contextlib.contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Hold back what native code writes to standard error; show it if the block fails.

    TensorFlow's C++ start-up lines ("Could not find cuda drivers") obey no environment variable.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except BaseException:
            held_back.seek(0)
            os.write(saved, held_back.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
