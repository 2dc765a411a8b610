"""Engine protocol: one opened model, whatever its runtime."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from edge_runtime.contract import TensorSpec


class Engine(Protocol):
    """One opened model with one input and one output. Not thread-safe: give each thread its own."""

    name: str
    """``litert``, ``tflite-runtime`` or ``onnxruntime``."""

    accelerator: str | None = None
    """``edgetpu`` where an Edge TPU takes part; None for the processor alone."""

    input: TensorSpec
    output: TensorSpec

    @property
    def version(self) -> str:
        """Version of the runtime, such as ``2.3.0``."""
        ...

    def invoke(self, input_nhwc: NDArray[Any]) -> NDArray[Any]:
        """Run one image.

        Args:
            input_nhwc: An array of ``input.shape`` and ``input.dtype``.

        Returns:
            A fresh array of ``output.shape`` and ``output.dtype``.

        Raises:
            EngineError: The runtime refused the input or failed, or the engine was closed.
        """
        ...

    def close(self) -> None:
        """Release the model; calling it again does nothing."""
        ...
