"""Which runtime has the operators of a model that `convert.tflite_model` has read; the judging is the device's own."""

from __future__ import annotations

from typing import Any

from convert.lint.operators import operator_codes
from edge_runtime.vetting import versions
from edge_runtime.vetting.versions import LITERT as LITERT
from edge_runtime.vetting.versions import TFLITE_RUNTIME as TFLITE_RUNTIME
from edge_runtime.vetting.versions import Target as Target
from edge_runtime.vetting.versions import Unsupported as Unsupported
from edge_runtime.vetting.versions import has_builtin as has_builtin
from edge_runtime.vetting.versions import parse_target as parse_target


def minimum_runtime(model: Any) -> str:
    """Lowest runtime that has every operator of a ``ModelT``; see `edge_runtime.vetting.versions.minimum_runtime`."""
    return versions.minimum_runtime(operator_codes(model))


def unsupported(model: Any, target: Target) -> list[Unsupported]:
    """The operators of a ``ModelT`` that a runtime does not have; an empty list means that it has all."""
    return versions.unsupported(operator_codes(model), target)
