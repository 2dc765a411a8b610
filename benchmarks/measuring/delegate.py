"""What runs the operators of an opened model, as far as its runtime says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.engines.base import Engine

_DELEGATE = "DELEGATE"


def delegate_of(engine: Engine) -> str | None:
    """``edgetpu``, ``xnnpack``, ``xnnpack (2 of 71 operators)``, ``cpu``; None where the runtime does not say.

    LiteRT says it only through a method that is not part of its public interface, so a release without it gives None.
    """
    if engine.accelerator is not None:
        return engine.accelerator
    if engine.name == "onnxruntime":
        return "cpu"  # the only provider that edge_runtime asks for
    interpreter: Any = getattr(engine, "_interpreter", None)
    list_operators = getattr(interpreter, "_get_ops_details", None)
    return describe_operators(list_operators()) if list_operators is not None else None


def describe_operators(operators: Sequence[Mapping[str, Any]]) -> str:
    """The same from LiteRT's list of operators: those of the file, then one ``DELEGATE`` for each part taken over.

    Args:
        operators: Each with ``op_name``, and the tensor numbers ``inputs`` and ``outputs``.
    """
    own = [operator for operator in operators if operator["op_name"] != _DELEGATE]
    taken: set[int] = set()
    for part in operators:
        if part["op_name"] == _DELEGATE:
            taken |= _taken_over(own, part)
    if not taken:
        return "cpu"
    return "xnnpack" if len(taken) == len(own) else f"xnnpack ({len(taken)} of {len(own)} operators)"


def _taken_over(own: Sequence[Mapping[str, Any]], part: Mapping[str, Any]) -> set[int]:
    """Places in ``own`` of the operators that lead from a delegate's inputs to its outputs."""
    makers = {int(tensor): place for place, operator in enumerate(own) for tensor in operator["outputs"]}
    outer = {int(tensor) for tensor in part["inputs"]}
    found: set[int] = set()
    waiting = list(_numbers(part["outputs"]))
    while waiting:
        place = makers.get(waiting.pop())
        if place is not None and place not in found:
            found.add(place)
            waiting += [tensor for tensor in _numbers(own[place]["inputs"]) if tensor not in outer]
    return found


def _numbers(tensors: Iterable[Any]) -> list[int]:
    return [int(tensor) for tensor in tensors]
